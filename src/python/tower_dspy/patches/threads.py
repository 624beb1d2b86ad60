"""Threads that a program starts itself, as children of its call.

A call is settled when all its threads have ended, and stops them: those of anyio (such as
`dspy.asyncify`), of thread pools (such as `dspy.Parallel`), and the program's own. The functions
that start them are wrapped. Not part of a call are threads that start outside a call, and

- daemon threads: their author says that nothing needs to wait for them;
- threads that run a library's code, such as those of a pool, which outlive the work that they were
  made for. Their work is part of the call instead.
"""

import asyncio
import contextlib
import functools
import logging
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tower_dspy.call_state import CURRENT_CALL, Cancelled, parent_call, run_in_call
from tower_dspy.executor import CallExecutor, CallThread, thread_name
from tower_dspy.interrupt import InterruptibleRun, raise_pending_here, shielded
from tower_dspy.trace_context import carried

_log = logging.getLogger("tower_dspy.startup")

_PATHS = ("stdlib", "platstdlib", "purelib", "platlib")
_LIBRARIES = (*map(sysconfig.get_path, _PATHS), "<frozen", "<tower-dspy>")


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Wraps the functions that start threads, for the calls of `loop`."""
    _wrap_pools(loop)
    _wrap_threads(loop)
    try:
        # Here, as a program may run without it.
        from anyio import to_thread

        run_sync = to_thread.run_sync
    except (ImportError, AttributeError):
        _log.warning("this anyio lacks to_thread.run_sync: its threads are not seen")
    else:
        to_thread.run_sync = _wrap_anyio(loop, run_sync)


def _wrap_pools(loop: asyncio.AbstractEventLoop) -> None:
    submit = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def as_child(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        state = parent_call()
        if state is None or isinstance(self, CallExecutor):
            return submit(self, fn, *args, **kwargs)
        run = InterruptibleRun(carried(functools.partial(fn, *args, **kwargs)))
        work = CallThread(thread_name(fn), loop, run)

        def begin() -> Future:
            state.add_child(work)
            try:
                raise_pending_here()
                # Outside the run, which an interrupt may end anywhere.
                future = submit(self, run_in_call, state, work.execute)
            except BaseException:
                work.cancel_unless_begun()
                raise
            # Also where it is cancelled, or its pool is shut down, before it began.
            future.add_done_callback(lambda _: work.cancel_unless_begun())
            return future

        # An interrupt in between would leave a thread that is not part of the call.
        return shielded(begin)

    ThreadPoolExecutor.submit = as_child


def _wrap_threads(loop: asyncio.AbstractEventLoop) -> None:
    start = threading.Thread.start

    @functools.wraps(start)
    def as_child(self: threading.Thread) -> None:
        state = parent_call()
        if state is None or self.daemon or not _is_own(self):
            return shielded(start, self)
        work = CallThread(f"thread `{self.name}`", loop, InterruptibleRun(carried(self.run)))

        def run() -> None:
            CURRENT_CALL.set(state)
            del self.run  # it refers to the thread, which would be left to the collector
            # Not reported as an error, like the cancellation of a task.
            with contextlib.suppress(Cancelled):
                work.execute()

        def begin() -> None:
            self.run = run
            state.add_child(work)
            try:
                raise_pending_here()
                start(self)
            except BaseException:
                work.cancel_unless_begun()
                raise

        # An interrupt in between would leave a child that never ends.
        return shielded(begin)

    threading.Thread.start = as_child


def _is_own(thread: threading.Thread) -> bool:
    """Whether a thread runs a program's own code."""
    function: Any = getattr(thread, "_target", None) or type(thread).run
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is None or not code.co_filename.startswith(_LIBRARIES)


def _wrap_anyio(
    loop: asyncio.AbstractEventLoop, run_sync: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(run_sync)
    async def as_child(func: Any, *args: Any, **options: Any) -> Any:
        state = parent_call()
        if state is None:
            return await run_sync(func, *args, **options)
        run = InterruptibleRun(functools.partial(func, *args))
        work = CallThread(thread_name(func), loop, run)
        state.add_child(work)
        try:
            return await run_sync(work.execute, **options)
        finally:
            work.cancel_unless_begun()

    return as_child
