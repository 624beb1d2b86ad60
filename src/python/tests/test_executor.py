from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import FakePort

from tower_dspy import executor
from tower_dspy.executor import InlineExecutor, find_hops
from tower_dspy.pool import Pool
from tower_dspy.scope import SCOPE, Scope

pytestmark = pytest.mark.asyncio


def here() -> int:
    return threading.get_ident()


class Client:
    def target(self) -> int:
        return threading.get_ident()


def use(*hops) -> None:
    loop = asyncio.get_running_loop()
    pool = Pool(FakePort(), loop, "user", size=1)
    loop.set_default_executor(InlineExecutor(frozenset(hops), pool))


async def test_this_dspy_has_all_the_hops():
    found, missing = find_hops()
    assert missing == []
    assert len(found) == len(executor._HOPS)


async def test_a_name_that_this_dspy_lacks_is_told(monkeypatch):
    names = (("dspy.clients.execution", "gone"), ("dspy.no_such_module", "gone"))
    monkeypatch.setattr(executor, "_HOPS", (*executor._HOPS, *names))
    found, missing = find_hops()
    assert missing == ["dspy.clients.execution.gone", "dspy.no_such_module.gone"]
    assert len(found) == len(executor._HOPS) - 2


async def test_hops_run_inline_and_a_users_functions_on_threads():
    use(here, Client.target)
    assert await asyncio.to_thread(here) == here()
    assert await asyncio.to_thread(Client().target) == here()
    assert await asyncio.to_thread(threading.get_ident) != here()
    assert await asyncio.get_running_loop().run_in_executor(None, here) != here()


async def test_a_hop_that_raises_raises_where_it_is_awaited():
    def fails() -> None:
        raise LookupError("no")

    use(fails)
    with pytest.raises(LookupError, match="no"):
        await asyncio.to_thread(fails)


async def test_a_callable_that_has_no_hash_gets_a_thread():
    class Unhashable:
        __hash__ = None

        def __call__(self) -> int:
            return threading.get_ident()

    use(here)
    assert await asyncio.to_thread(Unhashable()) != here()


async def test_hops_find_no_blocked_thread_in_their_way():
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
