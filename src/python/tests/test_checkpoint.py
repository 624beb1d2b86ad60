"""The checkpoints of a sync program, with DSPy and without an LM."""

import threading
import time

import dspy
import pytest
from conftest import FakeCall

from tower_dspy.call_state import CallState, Cancelled
from tower_dspy.checkpoint import CHECKPOINT, check_thread, refuse_thread
from tower_dspy.interrupt import InterruptibleRun


class Step(dspy.Module):
    def forward(self):
        return {}


class Careless(dspy.Module):
    """Goes on for as long as an `except Exception` helps."""

    def __init__(self) -> None:
        super().__init__()
        self.step = Step()
        self.steps = 0

    def forward(self, times: int, then):
        for _ in range(times):
            try:
                self.step()
            except Exception:
                continue
            self.steps += 1
            then()
        return {}


def settings(state: CallState, *callbacks):
    return dspy.context(tower_dspy_call=state, callbacks=[*callbacks, CHECKPOINT])


def test_a_module_of_a_call_that_is_over_raises():
    call = FakeCall()
    program = Careless()

    def give_up() -> None:
        call.cancelled_by_host = program.steps == 3

    with settings(CallState(1, call, None)), pytest.raises(Cancelled):
        program(times=10, then=give_up)
    assert program.steps == 3


def test_a_tool_of_a_call_that_is_over_raises():
    call = FakeCall()
    used = []
    tool = dspy.Tool(lambda: used.append(True), name="tool", desc="", args={})
    with settings(CallState(1, call, None)):
        tool()
        call.cancelled_by_host = True
        with pytest.raises(Cancelled):
            tool()
    assert used == [True]


def test_callbacks_of_the_program_are_kept():
    seen = []

    class Theirs(dspy.utils.BaseCallback):
        def on_module_start(self, **_):
            seen.append("start")

        def on_module_end(self, **_):
            seen.append("end")

    with settings(CallState(1, FakeCall(), None), Theirs()):
        Step()()
    assert seen == ["start", "end"]


def test_outside_a_call_a_checkpoint_does_nothing():
    check_thread(None)


def test_each_further_refusal_of_a_thread_waits_longer():
    state = CallState(1, FakeCall(), None)

    def refused() -> float:
        began = time.monotonic()
        with pytest.raises(Cancelled):
            refuse_thread(state, "no")
        return time.monotonic() - began

    refused()
    assert refused() >= 0.010
    assert refused() >= 0.020
    # The first time of another thread is its own.
    times = []
    thread = threading.Thread(target=lambda: times.append(refused()))
    thread.start()
    thread.join()
    assert state.refusals[threading.get_ident()] == 3
    assert len(times) == 1 and len(state.refusals) == 2


def test_a_refusal_consumes_the_signal():
    run = InterruptibleRun(lambda: refuse_thread(None, "no"))
    signalled = []

    def refused_twice() -> None:
        try:
            refuse_thread(None, "no")
        except Cancelled:
            signalled.append(run.interrupt())

    run.function = refused_twice
    run.execute()
    assert (signalled, run.error) == ([False], None)
