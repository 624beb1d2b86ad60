import asyncio
import contextvars
import threading

import pytest
from conftest import in_call
from fakes import FakeHost

from tower_dspy.executor import CallExecutor
from tower_dspy.patches import to_thread as patch
from tower_dspy.pool import Pool

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
        loop.set_default_executor(CallExecutor(Pool(FakeHost(), loop, "user", size=1)))
        to_thread = patch.inlining(frozenset(inline), asyncio.to_thread)
        monkeypatch.setattr(asyncio, "to_thread", to_thread)

    return install


async def test_this_dspy_has_all_inline_functions():
    found, missing = patch.inline_functions()
    assert missing == []
    assert len(found) == len(patch._INLINE)


async def test_names_that_dspy_lacks_are_reported(monkeypatch):
    names = (("dspy.clients.execution", "gone"), ("dspy.no_such_module", "gone"))
    monkeypatch.setattr(patch, "_INLINE", (*patch._INLINE, *names))
    found, missing = patch.inline_functions()
    assert missing == ["dspy.clients.execution.gone", "dspy.no_such_module.gone"]
    assert len(found) == len(patch._INLINE) - 2


async def test_dspys_functions_run_inline_and_a_users_on_threads(use):
    use(here, Client.target)
    assert await asyncio.to_thread(here) == here()
    assert await asyncio.to_thread(Client().target) == here()
    assert await asyncio.to_thread(threading.get_ident) != here()
    assert await asyncio.get_running_loop().run_in_executor(None, here) != here()


async def test_an_inline_function_raises_where_it_is_awaited(use):
    def fails() -> None:
        raise LookupError("no")

    use(fails)
    with pytest.raises(LookupError, match="no"):
        await asyncio.to_thread(fails)


async def test_context_variables_of_an_inline_function_do_not_leak(use):
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


async def test_inline_functions_do_not_wait_for_blocked_threads(use):
    use(here)
    gate = threading.Event()
    with in_call():
        blocked = asyncio.create_task(asyncio.to_thread(gate.wait, 30))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(here) == here()
        assert not blocked.done()
        gate.set()
        assert await blocked
