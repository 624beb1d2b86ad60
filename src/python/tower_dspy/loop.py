"""The asyncio loop: made, kept alive and closed on the thread that owns the interpreter."""

from __future__ import annotations

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

from tower_dspy import children, forks, threads
from tower_dspy.executor import CallExecutor
from tower_dspy.forks import leave_if_child
from tower_dspy.pool import Pool
from tower_dspy.scope import SCOPE

_log = logging.getLogger("tower_dspy")

# For what async programs hand to `asyncio.to_thread`.
USER_THREADS = 32
# What Linux gives a main thread, unless it is told otherwise.
_STACK = 8 << 20


class _ForkAwareSelector(selectors.DefaultSelector):
    """A selector that ends a forked child of the host instead of waiting in it; see forks.py."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        leave_if_child()
        return super().select(timeout)


def make(port: Any, patience: tuple[float, int]) -> asyncio.AbstractEventLoop:
    """The loop, current on this thread, with our executor and our task factory."""
    loop = asyncio.SelectorEventLoop(_ForkAwareSelector())
    asyncio.set_event_loop(loop)
    if resource.getrlimit(resource.RLIMIT_STACK)[0] == resource.RLIM_INFINITY:
        # The C library then gives threads a quarter of it; a sync program runs on one.
        threading.stack_size(_STACK)
    pool = Pool(port, loop, "tower-dspy-user", USER_THREADS, *patience)
    loop.set_default_executor(CallExecutor(pool))
    loop.set_task_factory(_child_task)
    threads.install(loop)
    forks.install()
    loop.set_exception_handler(_unhandled)
    return loop


def run(loop: asyncio.AbstractEventLoop, stopping: Callable[[], bool]) -> None:
    """Runs the loop until the port stops it, whatever a task raises through it.

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
    """Closes the loop and does what the end of an interpreter would do.

    The interpreter itself is never finalized: that aborts the process if a Python thread still
    runs.
    """
    # Beside the generators: together they are to fit into the margin of a stop.
    ending = threading.Thread(target=children.end, daemon=True)
    with contextlib.suppress(Exception):
        ending.start()
    with contextlib.suppress(Exception):
        loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), 1.0))
    with contextlib.suppress(Exception):
        ending.join()
    with contextlib.suppress(Exception):
        loop.close()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited failed. asyncio's own handler prints it, with whatever it holds."""
    error = context.get("exception")
    _log.warning("%s", context.get("message"), exc_info=error)


def _child_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
) -> asyncio.Task:
    task = asyncio.Task(coroutine, loop=loop, **kwargs)
    context = kwargs.get("context")
    scope = SCOPE.get() if context is None else context.get(SCOPE)
    if scope is not None:
        scope.adopt(task)
    return task
