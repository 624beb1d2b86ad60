"""The runner and sync programs, on a pool of two threads."""

import pytest
from conftest import until_seen
from fakes import eventually

import witness

pytestmark = pytest.mark.asyncio


async def test_an_answer_is_the_outcome_and_the_end_at_once(harness):
    call = harness.start(harness.program("sync:Says"), key="sync-says", remaining=9.0)
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "done"]
    assert call.outcome == {"limited": True, "over": False}
    assert await witness.seen("sync-says") == ["sync"]


async def test_a_busy_loop_is_interrupted_once_and_cleans_up(harness):
    call = await harness.begin(harness.program("sync:Busy"), "runner-busy")
    harness.cancel_last()
    harness.cancel_last()
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "failed"]
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen("runner-busy") == ["running", "cleaned"]


async def test_a_call_that_waits_for_a_thread_and_is_cancelled_never_runs(harness):
    waits = harness.program("sync:Waits")
    calls = [harness.start(waits, key=f"runner-waits-{n}") for n in range(3)]
    await until_seen("runner-waits-0", "running")
    await until_seen("runner-waits-1", "running")
    harness.cancel_last()
    assert calls[2].outcome["kind"] == "cancelled"
    for n in range(3):
        witness.open_thread_gate(f"runner-waits-{n}")
    for call in calls:
        await call.ended()
    assert await witness.seen("runner-waits-2") == []


async def test_a_program_that_catches_everything_is_settled_when_its_thread_ends(harness):
    call = await harness.begin(harness.program("sync:Stubborn"), "runner-stubborn")
    harness.cancel_last()
    await eventually(lambda: harness.host.abandoned)
    assert call.events == []
    witness.open_thread_gate("runner-stubborn")
    await call.ended()
    assert (harness.host.abandoned, harness.host.replaced) == (0, 1)
    assert call.outcome == {"answer": "nevertheless"}


async def test_a_call_that_a_stop_leaves_on_a_thread_is_settled_when_that_ends(harness):
    call = await harness.begin(harness.program("sync:Stubborn"), "runner-left")
    await harness.stop(0.01)
    assert call.events == [("abandon", True)]
    witness.open_thread_gate("runner-left")
    await eventually(lambda: ["sync:Stubborn"] in call.named("settled"))


async def test_a_stop_interrupts_threads_as_well(harness):
    call = await harness.begin(harness.program("sync:Busy"), "runner-stop-busy")
    await harness.stop(3600)
    assert call.outcome["kind"] == "cancelled"
