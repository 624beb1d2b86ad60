"""The watchdog on the test's loop, which the programs of these tests hold up."""

import asyncio
import socket
import threading
import time

import pytest
import pytest_asyncio
from conftest import until_seen
from dspy.clients import costs
from fakes import FakeLoad, eventually

import waits
import witness
from tower_dspy import packages
from tower_dspy.watchdog import Watchdog

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def watched(harness):
    """A harness with a watchdog."""
    loop = asyncio.get_running_loop()
    dog = Watchdog(harness.host, harness.runner, loop, grace=0.2)
    await eventually(lambda: harness.host.pulses)
    yield harness
    dog.stop()


def give_up_later(call, seconds: float) -> None:
    """Rust cancels the call, of which a loop that is held up does not hear."""

    def later() -> None:
        time.sleep(seconds)
        call.cancelled_by_host = True

    threading.Thread(target=later, daemon=True).start()


async def test_code_that_blocks_the_loop_is_reported_with_its_program_and_call(watched):
    target = watched.function("blockers:blocks")
    call = watched.start(target, seconds=2)
    await call.ended()
    # On a busy machine other code of the loop is reported as well.
    held = [report for report in watched.host.reports if report[0][0].endswith(" blocks")]
    assert held
    for frames, program, seen in held:
        assert "blockers.py:" in frames[0]
        assert (program, seen) == ("blockers:blocks", call)


@pytest.mark.parametrize("seconds", [0.3, 4.0])
async def test_an_import_on_a_thread_that_holds_the_loop_up_for_a_moment_is_not_reported(
    watched, monkeypatch, seconds
):
    limit = 2.0
    monkeypatch.setattr("tower_dspy.watchdog.LATE_WHILE_LOADING", limit)
    costs.model_info("openai", "m")  # reads a table, as the warm-up of a host does
    released = threading.Event()
    monkeypatch.setattr(packages, "missing", lambda *_: lambda: released.wait(30))
    load = FakeLoad()
    lm = {"id": 1, "model": "openai/m", "base_url": "http://lm/v1", "has_key": True}
    watched.runner.load({"target": "question -> answer", "lm": lm}, load)
    # As a step in C code on the thread that does not let the loop go on.
    asyncio.get_running_loop().call_soon(time.sleep, seconds)
    await asyncio.sleep(0.1)
    released.set()
    await eventually(lambda: load.description or load.fault)
    # Those of the callback: on a busy machine the tasks of this loop are reported as well.
    held = [frames for frames, *_ in watched.host.reports if "asyncio/events.py:" in frames[0]]
    assert bool(held) == (seconds > limit)


async def test_a_call_that_spins_is_interrupted_once_when_it_is_over(watched):
    call = watched.start(watched.function("stuck:spins"), key="dog-spins")
    give_up_later(call, 0.1)
    await call.until("failed")
    # What the loop would have been told meanwhile, had it listened.
    watched.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen("dog-spins") == ["spinning", "cleaning", "cleaned"]


async def test_a_cancel_that_comes_after_the_exception_does_not_cut_the_clean_up(watched):
    call = watched.start(watched.function("blockers:spins_and_waits"), key="dog-waits")
    give_up_later(call, 0.1)
    await until_seen("dog-waits", "cleaning")
    watched.cancel_last()
    await witness.open_gate("dog-waits")
    await call.ended()
    assert await witness.seen("dog-waits") == ["cleaning", "cleaned"]


async def test_a_call_that_catches_the_interrupt_is_interrupted_again_after_the_grace(watched):
    call = watched.start(watched.function("blockers:swallows"), key="dog-swallows", times=2)
    give_up_later(call, 0.1)
    began = time.monotonic()
    await call.ended()
    assert await witness.seen("dog-swallows") == ["swallowed", "swallowed"]
    assert time.monotonic() - began >= 0.2


async def test_a_child_task_that_spins_is_interrupted(watched):
    call = watched.start(watched.function("blockers:child_spins"), key="dog-child")
    give_up_later(call, 0.1)
    await call.ended()
    assert await witness.seen("dog-child") == ["child ended"]


async def test_a_live_call_and_an_idle_loop_are_not_interrupted(watched):
    wanted = watched.start(watched.function("blockers:blocks"), seconds=0.3)
    await wanted.ended()
    assert wanted.events == [("settled", None), ("done", {"blocked": True})]
    idle = watched.start(watched.function("cleanup_plain:slow"), key="dog-idle")
    idle.cancelled_by_host = True
    await asyncio.sleep(0.3)
    assert idle.events == []
    watched.cancel_last()
    await witness.open_gate("dog-idle")
    await idle.ended()


@pytest.mark.parametrize(
    "wait", [wait.__name__ for wait in waits.WAITS if wait.__name__ != "runs_a_loop"]
)
async def test_a_wait_that_blocks_the_loop_is_ended_when_the_call_is_over(watched, wait):
    key = f"dog-{wait}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = watched.function(f"waits:Loop.{wait}")
        call = watched.start(target, key=key, port=server.getsockname()[1])

        def give_up() -> None:
            peer, _ = server.accept()
            time.sleep(0.1)
            call.cancelled_by_host = True
            peers.append(peer)

        peers = []
        threading.Thread(target=give_up, daemon=True).start()
        await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen(key) == ["cleaned"]
