"""Cancellation checkpoints: places where code of a cancelled call is stopped.

An exception raised in a thread is not delivered while the thread waits in C code. So each step that
DSPy reports (a module, a tool, a prompt) and each LM call first checks whether its call is over.
"""

import asyncio
import threading
import time
from typing import Any, NoReturn

from dspy.utils.callback import BaseCallback

from tower_dspy.call_state import CallState, Cancelled, current_call
from tower_dspy.fork_guard import exit_if_forked_child
from tower_dspy.interrupt import consume_signal_here

# Seconds that a thread waits at its second refusal, twice that at the next, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.010, 1.0


def check_thread(state: CallState | None) -> None:
    """Raises `Cancelled` if this thread's call is over."""
    exit_if_forked_child()
    if state is not None and state.is_over():
        refuse_thread(state, "the call was cancelled: it takes no step any more")


def refuse_thread(state: CallState | None, message: str) -> NoReturn:
    """Raises `Cancelled` in a thread of a call that is over.

    A program that catches it and asks again would keep a processor busy, so each further refusal
    of a thread waits first, twice as long as the one before.
    """
    consume_signal_here()
    if state is not None:
        thread = threading.get_ident()
        before = state.refusals.get(thread, 0)
        state.refusals[thread] = before + 1
        if before:
            time.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(before - 1, 10)))
    raise Cancelled(message)


async def check_task(state: CallState, message: str) -> None:
    """Stops this task if its call is over."""
    exit_if_forked_child()
    if state.is_over():
        await refuse_task(state, message)


async def refuse_task(state: CallState | None, message: str) -> None:
    """Raises `CancelledError` in a task of a call that is over, once, and then waits for ever.

    A program that catches it and asks again would hold the loop up. A task that waits sends
    nothing and uses no time.
    """
    if state is None or not state.was_refused:
        if state is not None:
            state.was_refused = True
        raise asyncio.CancelledError(message)
    await asyncio.get_running_loop().create_future()


class CheckpointCallback(BaseCallback):
    """The checkpoint of sync programs as a callback of DSPy, which lets a BaseException through.

    LM calls have their own, see patches/lm_hooks.py.
    """

    def on_module_start(self, **_: Any) -> None:
        check_thread(current_call())

    on_tool_start = on_adapter_format_start = on_module_start


CHECKPOINT = CheckpointCallback()
