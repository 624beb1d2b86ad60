"""The checkpoints of a sync program, with DSPy and without an LM."""

import asyncio
import threading
import time

import dspy
import pytest
from conftest import RunnerHarness
from fakes import FakeCall, eventually, turns

from tower_dspy.call_state import CallState, Cancelled, current_call
from tower_dspy.checkpoint import CHECKPOINT, check_task, check_thread, refuse_thread
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
            refuse_thread(state)
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
    run = InterruptibleRun(lambda: refuse_thread(None))
    signalled = []

    def refused_twice() -> None:
        try:
            refuse_thread(None)
        except Cancelled:
            signalled.append(run.interrupt())

    run.function = refused_twice
    run.execute()
    assert (signalled, run.error) == ([False], None)


async def step() -> None:
    await check_task(current_call())


async def step_in_a_child() -> None:
    await asyncio.gather(step(), asyncio.sleep(0))


async def step_on_a_thread() -> None:
    await asyncio.to_thread(check_thread, current_call())


async def sync_step() -> None:
    check_thread(current_call())


async def step_in_a_loop_on_a_thread() -> None:
    await asyncio.to_thread(asyncio.run, step())


class Program:
    """An async program whose code is in the test."""

    def __init__(self, harness: RunnerHarness, code) -> None:
        self.harness = harness

        self.call = harness.start_code(lambda _inputs: code())

    def cancel(self) -> None:
        self.call.cancelled_by_host = True
        self.harness.cancel_last()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "refused", [step, step_in_a_child, step_on_a_thread, sync_step, step_in_a_loop_on_a_thread]
)
async def test_clean_up_after_a_refusal_is_not_cut_by_the_cancel_that_follows(harness, refused):
    gate, cleaning, seen = asyncio.Event(), asyncio.Event(), []

    async def code() -> None:
        program.call.cancelled_by_host = True
        try:
            await refused()
            seen.append("not refused")
        finally:
            cleaning.set()
            await gate.wait()
            seen.append("cleaned")

    program = Program(harness, code)
    await asyncio.wait_for(cleaning.wait(), 30)
    program.cancel()
    await turns(5)
    gate.set()
    await program.call.ended()
    assert (seen, program.call.outcome["kind"]) == (["cleaned"], "cancelled")


@pytest.mark.asyncio
async def test_a_call_settles_whose_tasks_each_take_a_step_in_their_clean_up(harness):
    async def child() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await step()

    async def code() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(child())
        finally:
            await step()

    program = Program(harness, code)
    await turns(5)
    program.cancel()
    await asyncio.wait_for(program.call.ended(), 30)
    assert program.call.outcome["kind"] == "cancelled"


@pytest.mark.asyncio
async def test_a_task_that_ignores_refusals_does_not_keep_the_loop_busy(harness):
    refusals = 0

    async def code() -> None:
        nonlocal refusals
        while refusals < 100:
            try:
                await step()
            except asyncio.CancelledError:
                refusals += 1

    program = Program(harness, code)
    program.call.cancelled_by_host = True
    await eventually(lambda: refusals > 1)
    await asyncio.sleep(0.1)
    assert refusals < 10
    refusals = 100
    await program.call.until("done")
