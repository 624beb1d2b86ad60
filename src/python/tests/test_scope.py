from __future__ import annotations

import asyncio
import math
import time

import pytest

import tower_dspy
from tower_dspy.scope import SCOPE, Scope

pytestmark = pytest.mark.asyncio


async def test_outside_a_call_there_is_no_limit():
    assert tower_dspy.deadline() is None
    assert tower_dspy.remaining() == math.inf
    assert tower_dspy.cancelled() is False


async def test_a_call_knows_its_limit_in_threads_and_tasks_too():
    token = SCOPE.set(Scope(1, None, 100.0))
    try:
        assert 99 < tower_dspy.deadline() - time.monotonic() <= 100
        assert 99 < tower_dspy.remaining() <= 100
        assert 99 < await asyncio.to_thread(tower_dspy.remaining) <= 100

        async def inner() -> float:
            return tower_dspy.remaining()

        assert 99 < await asyncio.create_task(inner()) <= 100
    finally:
        SCOPE.reset(token)


async def test_what_is_left_is_never_below_zero():
    scope = Scope(1, None, -5.0)
    token = SCOPE.set(scope)
    try:
        assert tower_dspy.remaining() == 0.0
        scope.cancelled = True
        assert tower_dspy.cancelled() is True
    finally:
        SCOPE.reset(token)


async def test_what_is_made_after_the_end_is_cancelled_at_birth():
    scope = Scope(1, None, None)
    scope.closed = True
    ran = []

    async def late() -> None:
        ran.append(True)

    task = asyncio.Task(late(), loop=asyncio.get_running_loop())
    scope.adopt(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert (ran, scope.children) == ([], set())
