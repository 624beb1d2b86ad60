import asyncio
import gc
import sys
import threading

import pytest
from conftest import until_seen
from fakes import eventually, turns

import raises
import witness
from tower_dspy import interrupt, runner, thread_signal
from tower_dspy import loop as loops
from tower_dspy.call_state import CallState
from tower_dspy.runner import HEARTBEAT

pytestmark = pytest.mark.asyncio


async def test_an_answer_is_the_outcome_and_the_end_at_once(harness):
    call = harness.start(harness.function("inputs:echo"), value=[1, {"a": None}])
    await call.ended()
    assert call.events == [("settled", None), ("done", {"value": [1, {"a": None}]})]


async def test_an_unloaded_program_is_dropped_and_its_call_goes_on(harness):
    target = harness.function("cleanup_plain:slow")
    call = await harness.begin(target, "runner-unloaded")
    harness.runner.unload(target)
    with pytest.raises(KeyError):
        harness.start(target, key="runner-unloaded")
    # Numbers are not given again: a call of the one would reach the other.
    assert harness.function("inputs:echo") > target
    harness.runner.cancel(1)
    await witness.open_gate("runner-unloaded")
    await call.ended()
    assert await witness.seen("runner-unloaded") == ["running", "cleaning", "cleaned"]


async def test_the_module_of_a_source_goes_with_its_program(harness):
    spec = {"source": "async def f(): return 1", "module": "of_a_source", "attribute": "f"}
    spec = {**spec, "target": "source:f", "function": True}
    target = harness.load(spec)["id"]
    assert "of_a_source" in sys.modules
    harness.runner.unload(target)
    assert "of_a_source" not in sys.modules


async def test_a_failure_is_settled_before_it_is_reported(harness):
    call = harness.start(harness.function("raises:own"), key="x")
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "failed"]
    assert call.outcome["type"] == "raises.NoAnswer"
    assert call.named("settled") == [None]


@pytest.mark.parametrize("target", ["raises:own", "raises:Module", "raises:SyncModule"])
async def test_a_failed_call_leaves_nothing_to_the_garbage_collector(harness, target):
    program = harness.program(target)
    gc.collect()
    gc.disable()
    try:
        await harness.start(program, key="x").ended()
        await turns(3)
        kept = [o for o in gc.get_objects() if isinstance(o, CallState | raises.NoAnswer)]
        assert kept == []
    finally:
        gc.enable()


async def test_wrong_arguments_are_a_failure_of_the_call(harness):
    call = harness.start(harness.function("inputs:echo"), other=1)
    await call.ended()
    assert call.outcome["type"] == "TypeError"


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("raises:exits", "SystemExit"),
        ("raises:interrupts", "KeyboardInterrupt"),
        ("raises:group", "ExceptionGroup"),
        ("raises:unasked", "asyncio.exceptions.CancelledError"),
    ],
)
async def test_any_exception_is_a_failure_of_its_call_alone(harness, target, kind):
    call = harness.start(harness.function(target), key="x")
    await call.ended()
    assert (call.outcome["kind"], call.outcome["type"]) == ("raised", kind)


async def test_a_cancel_is_sent_once_and_the_clean_up_runs_to_its_end(harness):
    call = await harness.begin(harness.function("cleanup_plain:slow"), "runner-once")
    for _ in range(3):
        harness.cancel_last()
    await until_seen("runner-once", "running", "cleaning")
    harness.cancel_last()
    assert call.events == []
    await witness.open_gate("runner-once")
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen("runner-once") == ["running", "cleaning", "cleaned"]


async def test_a_call_cancelled_before_it_began_never_runs(harness):
    call = harness.start(harness.function("cleanup_plain:slow"), key="runner-early")
    harness.cancel_last()
    harness.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen("runner-early") == []


async def test_a_cancel_after_the_end_does_nothing(harness):
    call = harness.start(harness.function("inputs:echo"), value=1)
    await call.ended()
    harness.cancel_last()
    await asyncio.sleep(0)
    assert [name for name, _ in call.events] == ["settled", "done"]


async def test_an_answer_after_a_cancel_is_still_one_outcome(harness):
    call = await harness.begin(harness.function("cleanup_plain:swallows"), "runner-swallows")
    harness.cancel_last()
    await call.ended()
    assert call.events == [("settled", None), ("done", {"answer": "nevertheless"})]


async def test_a_call_that_ends_before_its_cancel_arrives_is_cancelled(harness):
    call = harness.start(harness.function("raises:unasked"), key="x")
    call.cancelled_by_host = True
    await call.ended()
    assert call.outcome["kind"] == "cancelled"


async def test_strays_are_cancelled_named_and_waited_for(harness):
    call = harness.start(harness.function("strays:forgets"), key="runner-strays")
    await call.until("done")
    await until_seen("runner-strays", "stray cleaning", "stray cleaning")
    assert call.named("settled") == []
    await witness.open_gate("runner-strays")
    await call.ended()
    assert call.events[1:] == [("settled", ["background", "background"])]


async def test_a_task_of_a_stray_is_part_of_the_call(harness):
    call = harness.start(harness.function("strays:breeds"), key="runner-breeds")
    await call.ended()
    assert [name for name, _ in call.events] == ["done", "settled"]
    assert await witness.seen("runner-breeds") == ["bred"]


async def test_a_task_of_a_finalizer_is_part_of_no_call(harness):
    call = harness.start(harness.function("strays:collects"), key="runner-collects")
    await call.ended()
    assert call.events == [("settled", None), ("done", {"answer": "done"})]
    await until_seen("runner-collects", "closing")
    await witness.open_gate("runner-collects")
    await until_seen("runner-collects", "closing", "closed")


async def test_a_thread_is_part_of_its_call_until_it_ends(harness):
    call = await harness.begin(harness.function("cleanup_plain:in_a_thread"), "runner-thread")
    harness.cancel_last()
    await call.until("failed")
    assert call.named("settled") == []
    witness.open_thread_gate("runner-thread")
    await call.ended()
    assert call.named("settled") == [["thread of in_a_thread.<locals>.wait"]]
    # Its wait cannot be broken, but what comes after that is not reached.
    assert await witness.seen("runner-thread") == ["running"]


async def test_a_joined_thread_is_no_stray(harness):
    witness.open_thread_gate("runner-waited")
    call = harness.start(harness.function("cleanup_plain:in_a_thread"), key="runner-waited")
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "done"]


async def test_the_calls_of_one_turn_do_not_mix_their_tasks(harness):
    first = harness.start(harness.function("strays:forgets"), key="runner-first")
    second = harness.start(harness.function("inputs:echo"), value=1)
    await second.ended()
    assert second.events == [("settled", None), ("done", {"value": 1})]
    await witness.open_gate("runner-first")
    await first.ended()


async def test_the_loop_beats(harness):
    before = harness.host.beats
    await eventually(lambda: harness.host.beats >= before + 2, pause=HEARTBEAT)


async def test_a_stop_without_calls_ends_at_once(harness):
    await harness.stop(3600)


async def test_a_stop_cancels_the_calls_and_waits_for_their_end(harness):
    call = await harness.begin(harness.function("cleanup_plain:brief"), "runner-stop")
    await harness.stop(3600)
    assert call.outcome["kind"] == "cancelled"
    assert await witness.seen("runner-stop") == ["running", "cleaned"]


async def test_a_stop_abandons_calls_that_do_not_end_within_its_grace(harness):
    call = await harness.begin(harness.function("cleanup_plain:slow"), "runner-stuck")
    await harness.stop(0.01)
    assert call.events == [("abandon", False)]
    await witness.open_gate("runner-stuck")


async def test_the_loop_survives_an_exit_that_a_task_raises():
    class Loop:
        turns = 0

        def run_forever(self):
            self.turns += 1
            if self.turns < 3:
                raise SystemExit

    loop = Loop()
    loops.run(loop, lambda: loop.turns == 3)
    assert loop.turns == 3


async def test_no_signal_comes_between_the_end_of_a_call_and_its_outcome(harness, monkeypatch):
    """As the watchdog would send it."""
    raised = []

    def signalled() -> None:
        task = asyncio.current_task()
        if task is not None:
            ids = threading.get_ident(), threading.get_native_id()
            signal = thread_signal.ThreadSignal(*ids, thread_signal.TaskInterrupted)
            note = (harness, "signalled", True)
            raised.append(interrupt.raise_if(signal, len, (task,), 1, note))

    monkeypatch.setattr(runner, "exit_if_forked_child", signalled)
    call = harness.start(harness.function("inputs:echo"), value=1)
    await call.ended()
    assert call.outcome == {"value": 1}
    assert raised == [False]
    assert not interrupt._shielded
