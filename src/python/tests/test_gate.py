"""The gate that a sync program passes, with DSPy and without an LM."""

from __future__ import annotations

import threading
import time

import dspy
import pytest
from conftest import FakeCall

from tower_dspy.gate import GATE, pass_or_raise, refuse
from tower_dspy.interrupt import Stint
from tower_dspy.scope import Cancelled, Scope


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


def settings(scope: Scope, *callbacks):
    return dspy.context(tower_dspy_scope=scope, callbacks=[*callbacks, GATE])


def test_a_call_that_is_over_takes_no_step_more():
    call = FakeCall()
    program = Careless()

    def give_up() -> None:
        call.given_up = program.steps == 3

    with settings(Scope(1, call, None)), pytest.raises(Cancelled):
        program(times=10, then=give_up)
    assert program.steps == 3


def test_a_tool_is_a_step_too():
    call = FakeCall()
    used = []
    tool = dspy.Tool(lambda: used.append(True), name="tool", desc="", args={})
    with settings(Scope(1, call, None)):
        tool()
        call.given_up = True
        with pytest.raises(Cancelled):
            tool()
    assert used == [True]


def test_callbacks_of_the_users_stay():
    seen = []

    class Theirs(dspy.utils.BaseCallback):
        def on_module_start(self, **_):
            seen.append("start")

        def on_module_end(self, **_):
            seen.append("end")

    with settings(Scope(1, FakeCall(), None), Theirs()):
        Step()()
    assert seen == ["start", "end"]


def test_outside_a_call_the_gate_is_open():
    pass_or_raise(None)


def test_a_thread_that_asks_again_and_again_waits_longer_each_time():
    scope = Scope(1, FakeCall(), None)

    def refused() -> float:
        began = time.monotonic()
        with pytest.raises(Cancelled):
            refuse(scope, "no")
        return time.monotonic() - began

    refused()
    assert refused() >= 0.010
    assert refused() >= 0.020
    # The first time of another thread is its own.
    times = []
    thread = threading.Thread(target=lambda: times.append(refused()))
    thread.start()
    thread.join()
    assert scope.refusals[threading.get_ident()] == 3
    assert len(times) == 1 and len(scope.refusals) == 2


def test_a_refusal_spends_the_signal():
    stint = Stint(lambda: refuse(None, "no"))
    signalled = []

    def run() -> None:
        try:
            refuse(None, "no")
        except Cancelled:
            signalled.append(stint.interrupt())

    stint.function = run
    stint.run()
    assert (signalled, stint.error) == ([False], None)
