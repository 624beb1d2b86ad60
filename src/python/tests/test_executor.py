from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from conftest import FakePort

from tower_dspy.executor import CallExecutor
from tower_dspy.patches import hops
from tower_dspy.pool import Pool
from tower_dspy.scope import SCOPE, Scope

pytestmark = pytest.mark.asyncio


def here() -> int:
    return threading.get_ident()


class Client:
    def target(self) -> int:
        return threading.get_ident()


@pytest.fixture
def use(monkeypatch):
    """Has these functions run inline, and all others on one thread."""

    def install(*inline) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(CallExecutor(Pool(FakePort(), loop, "user", size=1)))
        to_thread = hops.inlining(frozenset(inline), asyncio.to_thread)
        monkeypatch.setattr(asyncio, "to_thread", to_thread)

    return install


async def test_this_dspy_has_all_the_hops():
    found, missing = hops.find()
    assert missing == []
    assert len(found) == len(hops._HOPS)


async def test_a_name_that_this_dspy_lacks_is_told(monkeypatch):
    names = (("dspy.clients.execution", "gone"), ("dspy.no_such_module", "gone"))
    monkeypatch.setattr(hops, "_HOPS", (*hops._HOPS, *names))
    found, missing = hops.find()
    assert missing == ["dspy.clients.execution.gone", "dspy.no_such_module.gone"]
    assert len(found) == len(hops._HOPS) - 2


async def test_hops_run_inline_and_a_users_functions_on_threads(use):
    use(here, Client.target)
    assert await asyncio.to_thread(here) == here()
    assert await asyncio.to_thread(Client().target) == here()
    assert await asyncio.to_thread(threading.get_ident) != here()
    assert await asyncio.get_running_loop().run_in_executor(None, here) != here()


async def test_a_hop_that_raises_raises_where_it_is_awaited(use):
    def fails() -> None:
        raise LookupError("no")

    use(fails)
    with pytest.raises(LookupError, match="no"):
        await asyncio.to_thread(fails)


async def test_what_a_hop_sets_in_its_context_stays_there(use):
    variable = contextvars.ContextVar("variable", default=0)
    use(variable.set)
    await asyncio.to_thread(variable.set, 1)
    assert variable.get() == 0


async def test_a_callable_that_has_no_hash_gets_a_thread(use):
    class Unhashable:
        __hash__ = None

        def __call__(self) -> int:
            return threading.get_ident()

    use(here)
    assert await asyncio.to_thread(Unhashable()) != here()


async def test_hops_find_no_blocked_thread_in_their_way(use):
    use(here)
    token = SCOPE.set(Scope(1, None, None))
    gate = threading.Event()
    blocked = asyncio.create_task(asyncio.to_thread(gate.wait, 30))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(here) == here()
    assert not blocked.done()
    gate.set()
    assert await blocked
    SCOPE.reset(token)
