"""The asyncio loop of a host: made, run and closed on the thread that owns the interpreter."""

import asyncio
import atexit
import contextlib
import logging
import resource
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tower_dspy import child_processes, fork_guard
from tower_dspy.call_state import CURRENT_CALL, is_in_finalizer, run_outside_calls
from tower_dspy.executor import CallExecutor
from tower_dspy.fork_guard import exit_if_forked_child
from tower_dspy.patches import processes, threads
from tower_dspy.pool import Pool

_log = logging.getLogger("tower_dspy")

# Threads for `asyncio.to_thread` in programs.
USER_THREADS = 32
# The stack of a main thread on Linux by default.
_STACK = 8 << 20


class _ForkAwareSelector(selectors.DefaultSelector):
    """A selector that exits a forked child instead of waiting in it, see fork_guard.py."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        exit_if_forked_child()
        return super().select(timeout)


def make(host: Any, patience: tuple[float, int]) -> asyncio.AbstractEventLoop:
    """Makes the loop and sets it on this thread, with an executor and a task factory for calls."""
    loop = asyncio.SelectorEventLoop(_ForkAwareSelector())
    asyncio.set_event_loop(loop)
    if resource.getrlimit(resource.RLIMIT_STACK)[0] == resource.RLIM_INFINITY:
        # The C library then gives threads a quarter of it, and a sync program runs on a thread.
        threading.stack_size(_STACK)
    pool = Pool(host, loop, "tower-dspy-user", USER_THREADS, *patience)
    loop.set_default_executor(CallExecutor(pool))
    loop.set_task_factory(_child_task)
    threads.install(loop)
    processes.install(loop, patience[0])
    fork_guard.install()
    loop.set_exception_handler(_unhandled)
    return loop


def run(loop: asyncio.AbstractEventLoop, stopping: Callable[[], bool]) -> None:
    """Runs the loop until the runner stops it, whatever a task raises through it.

    `SystemExit` and `KeyboardInterrupt` in a task end `run_forever`; the other calls go on.
    """
    while True:
        try:
            loop.run_forever()
        except BaseException as error:
            _log.warning("a task raised %s through the loop, which goes on", type(error).__name__)
        if stopping():
            return


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Closes the loop and runs the exit functions of the interpreter.

    The interpreter itself is never finalized: that aborts the process if a Python thread still
    runs.
    """
    # In parallel with the generators: both have to fit into the margin of a stop.
    ending = threading.Thread(target=child_processes.shut_down, daemon=True)
    for step in (
        ending.start,
        lambda: loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), 1.0)),
        ending.join,
        loop.close,
        atexit._run_exitfuncs,
        lambda: sys.stdout.flush(),
        lambda: sys.stderr.flush(),
    ):
        with contextlib.suppress(Exception):
            step()


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs a failure that was never awaited. asyncio's own handler prints it to stderr."""
    error = context.get("exception")
    _log.warning("%s", context.get("message"), exc_info=error)


def _child_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
) -> asyncio.Task:
    context = kwargs.get("context")
    state = CURRENT_CALL.get() if context is None else context.get(CURRENT_CALL)
    if state is None:
        return asyncio.Task(coroutine, loop=loop, **kwargs)
    if is_in_finalizer():
        return run_outside_calls(asyncio.Task, coroutine, loop=loop, **kwargs)
    task = asyncio.Task(coroutine, loop=loop, **kwargs)
    state.add_child(task)
    return task
