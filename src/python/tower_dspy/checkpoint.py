"""Cancellation checkpoints: places where code of a cancelled call is stopped.

An exception raised in a thread is not delivered while the thread waits in C code. So each step that
DSPy reports (a module, a tool, a prompt) and each LM call first checks whether its call is over.
"""

import asyncio
import contextlib
import threading
import time
from typing import Any, NoReturn

from dspy.utils.callback import BaseCallback

from tower_dspy.call_state import CallState, Cancelled, current_call
from tower_dspy.fork_guard import exit_if_forked_child
from tower_dspy.interrupt import consume_signal_here

# The message of the exceptions.
CANCELLED = "the call was cancelled: it takes no step any more"
# Seconds that the second refusal of a thread waits, and the longest wait of a later one.
_FIRST_WAIT, _LONGEST_WAIT = 0.010, 1.0
# The tasks of a call among its refusals; no thread has this id.
_TASKS = 0


def check_thread(state: CallState | None) -> None:
    """Raises `Cancelled` if this thread's call is over."""
    exit_if_forked_child()
    if state is not None and state.is_over():
        refuse_thread(state)


def refuse_thread(state: CallState | None) -> NoReturn:
    """Raises `Cancelled` in a thread of a call that is over."""
    consume_signal_here()
    if state is not None:
        loop = asyncio._get_running_loop()
        if state.task is not None and loop and asyncio.current_task(loop) is state.task:
            # Sync code on the loop: what is raised below is the task's signal.
            state.interrupted_task = state.task
        _signal_task(state)
        time.sleep(_pause(state, threading.get_ident()))
    raise Cancelled(CANCELLED)


async def check_task(state: CallState) -> None:
    """Raises `CancelledError` if this task's call is over."""
    exit_if_forked_child()
    if state.is_over():
        await refuse_task(state)


async def refuse_task(state: CallState | None) -> NoReturn:
    """Raises `CancelledError` in a task of a call that is over."""
    consume_signal_here()  # the loop may be one of a program on a thread
    if state is not None:
        _signal_task(state)
        # A signal to this task arrives here, and not in its clean-up code.
        await asyncio.sleep(_pause(state, _TASKS))
    raise asyncio.CancelledError(CANCELLED)


def _signal_task(state: CallState) -> None:
    """Cancels an async call at its runner, which the host's cancel has not reached yet.

    A refusal ends other tasks as well, those that wait for the refused code. The one signal comes
    before that: a later one would cut their clean-up short.
    """
    task = state.task
    if task is None or state.cancelled:
        return
    loop = task.get_loop()
    if loop is asyncio._get_running_loop():
        state.runner.cancel(state.sequence)
    else:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(state.runner.cancel, state.sequence)


def _pause(state: CallState, waiting: int) -> float:
    """The seconds that a refusal waits: none at the first, then twice as long each time.

    Each thread waits by itself, and the tasks of a call together: sync code on the loop does not
    block it for as long as they wait.

    A program that catches the refusal and asks again would keep a processor busy. The wait ends,
    as the caller may be clean-up code that the rest of the call waits for.
    """
    before = state.refusals.get(waiting, 0)
    state.refusals[waiting] = before + 1
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(before - 1, 10)) if before else 0


class CheckpointCallback(BaseCallback):
    """The checkpoint of sync programs as a callback of DSPy, which lets a BaseException through.

    LM calls have their own, see patches/lm_hooks.py.
    """

    def on_module_start(self, **_: Any) -> None:
        check_thread(current_call())

    on_tool_start = on_adapter_format_start = on_module_start


CHECKPOINT = CheckpointCallback()
