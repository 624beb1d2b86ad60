"""Threads that a program starts itself, as children of its call."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio
from anyio import to_thread
from conftest import execute_interrupted, until_seen
from fakes import FakeCall, eventually

import witness
from tower_dspy.call_state import CURRENT_CALL, CallState, Cancelled
from tower_dspy.interrupt import InterruptibleRun, shielded
from tower_dspy.patches import threads

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def counted(monkeypatch, harness):
    """A harness where threads are counted; what is wrapped for that is put back."""
    for owner, name in (
        (ThreadPoolExecutor, "submit"),
        (threading.Thread, "start"),
        (to_thread, "run_sync"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    threads.install(asyncio.get_running_loop())
    return harness


@pytest.mark.parametrize("way", ["anyio", "pool", "thread"])
async def test_a_thread_that_is_left_behind_is_stopped_named_and_waited_for(counted, way):
    key = f"left-{way}"
    call = counted.start(counted.function(f"threads:leaves_{way}"), key=key)
    await call.until("done")
    assert call.named("settled") == []
    await until_seen(key, "running")
    witness.open_thread_gate(key)
    await call.ended()
    (names,) = call.named("settled")
    assert any(name.startswith("thread ") for name in names), names
    # Its wait could not be broken, and it went no further.
    assert await witness.seen(key) == ["running"]


@pytest.mark.parametrize("way", ["anyio", "pool", "thread"])
async def test_a_thread_that_is_busy_ends_with_its_call(counted, way):
    key = f"busy-{way}"
    call = await counted.begin(counted.function(f"threads:busy_{way}"), key)
    counted.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen(key) == ["running", "cleaned"]


@pytest.mark.parametrize("way", ["anyio", "pool", "thread"])
async def test_joined_threads_are_no_strays(counted, way):
    call = counted.start(counted.function(f"threads:uses_{way}"), key="used")
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "done"]
    assert call.outcome == {"answer": 7}


async def test_a_thread_of_a_finalizer_is_part_of_no_call(counted):
    key = "collects-on-thread"
    call = counted.start(counted.function("strays:collects"), key=key, on_thread=True)
    await call.until("done")
    settled = call.named("settled")
    witness.open_thread_gate(key)
    assert settled == [None]
    await until_seen(key, "closing", "closed")


async def test_functions_of_pools_are_code_of_their_call(counted):
    call = counted.start(counted.function("threads:asks_in_pools"), remaining=60.0, key="pools")
    await call.ended()
    assert call.outcome["known"] == [True, True]


@pytest.mark.parametrize("way", ["pool", "thread"])
async def test_a_thread_that_was_cancelled_as_it_starts_another_does_not_start_it(counted, way):
    ran: list[bool] = []
    pool = ThreadPoolExecutor(1)

    def starts(interrupt) -> None:
        CURRENT_CALL.set(CallState(1, None, None, runner=counted.runner))

        def begin() -> None:
            interrupt()
            if way == "pool":
                pool.submit(ran.append, True)
            else:
                threading.Thread(target=lambda: ran.append(True), daemon=False).start()

        shielded(begin)

    run = execute_interrupted(starts)
    assert isinstance(run.error, Cancelled)
    pool.shutdown()
    assert ran == []


async def test_daemon_threads_and_those_of_pools_are_not_waited_for(counted):
    call = counted.start(counted.function("threads:starts_a_daemon"), key="daemon")
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "done"]
    await until_seen("daemon", "running")
    witness.open_thread_gate("daemon")
    await until_seen("daemon", "running", "waited")


async def test_queued_work_of_a_pool_does_not_delay_the_end(counted):
    call = await counted.begin(counted.function("threads:overfills_a_pool"), "overfull")
    counted.cancel_last()
    witness.open_thread_gate("overfull")
    await call.ended()
    assert await witness.seen("overfull") == ["running"]


async def test_outside_a_call_nothing_is_changed(counted):
    ran = []
    thread = threading.Thread(target=lambda: ran.append(True))
    thread.start()
    thread.join()
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: 7).result() == 7
    assert await to_thread.run_sync(lambda: 7) == 7
    assert ran == [True]


async def test_an_interrupt_never_hits_a_thread_that_is_being_started(counted):
    born, ran = [], []

    def start_many() -> None:
        while True:
            thread = threading.Thread(target=lambda: ran.append(True), daemon=True)
            born.append(thread)
            thread.start()
            thread.join()

    for _ in range(200):
        begun = len(born)
        run = InterruptibleRun(start_many)
        outer = threading.Thread(target=run.execute, daemon=True)
        outer.start()
        await eventually(lambda begun=begun: len(born) >= begun + 2, pause=0)
        run.interrupt()
        outer.join(0.1)
        # A signal that arrives in a destructor, such as those of dead threads, is lost.
        end = time.monotonic() + 30
        while outer.is_alive() and time.monotonic() < end:
            run.interrupt_again()
            outer.join(0.001)
        assert not outer.is_alive(), "it waits for a thread that was killed at its birth"
    # The last one of a run may be one that was not started any more.
    assert len(born) - len(ran) <= 200


@pytest.mark.parametrize("way", ["pool", "thread"])
async def test_a_child_whose_start_is_interrupted_ends(counted, way):
    state = CallState(1, FakeCall(), None)

    class InterruptedSet(set):
        interrupt = None

        def add(self, child):
            super().add(child)
            self.interrupt()

    def start(interrupt) -> None:
        CURRENT_CALL.set(state)
        state.children.interrupt = interrupt
        if way == "pool":
            ThreadPoolExecutor().submit(sum, ())
        else:
            threading.Thread(target=lambda: None, daemon=False).start()

    state.children = InterruptedSet()
    run = await asyncio.to_thread(execute_interrupted, start)
    assert isinstance(run.error, Cancelled)
    async with asyncio.timeout(30):
        while state.children:
            await asyncio.sleep(0)


async def test_an_anyio_without_run_sync_is_a_warning(monkeypatch, counted, caplog):
    monkeypatch.delattr(to_thread, "run_sync")
    threads.install(asyncio.get_running_loop())
    assert "its threads are not seen" in caplog.text
