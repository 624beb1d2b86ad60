"""Threads that a program's code makes by itself: counted as part of its call, and stopped with it.

A call that hands work to a thread is not over before that has ended, however it got there:
`dspy.asyncify` and all else that uses anyio, thread pools (those of `dspy.Parallel`, too), and
threads of the program's own. These are wrapped where they begin. What runs outside a call is left
alone, and so is

- a daemon thread: whoever makes one says that nobody needs to wait for it;
- a thread whose code is a library's, such as the threads of a pool, which outlive the work that
  they were made for. Their work is counted, not they.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tower_dspy.executor import CallExecutor, ThreadOfCall, name_of
from tower_dspy.interrupt import Stint, shield_imports, start_thread
from tower_dspy.scope import SCOPE, Cancelled, current_scope

_log = logging.getLogger("tower_dspy.startup")

_PATHS = ("stdlib", "platstdlib", "purelib", "platlib")
_LIBRARIES = (*map(sysconfig.get_path, _PATHS), "<frozen", "<tower-dspy>")


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Wraps what makes threads, once, for the calls of `loop`."""
    shield_imports()
    _wrap_pools(loop)
    _wrap_threads(loop)
    try:
        from anyio import to_thread

        run_sync = to_thread.run_sync
    except (ImportError, AttributeError):
        _log.warning("this anyio lacks to_thread.run_sync: its threads are not seen")
    else:
        to_thread.run_sync = _anyio(loop, run_sync)


class _Counted:
    """A function that is part of a call while it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Any, name: str) -> None:
        self.begun = False
        self.stint = Stint(function)
        self.thread = ThreadOfCall(name, loop, self.stint)

    def run(self) -> Any:
        self.begun = True
        try:
            self.stint.run()
        finally:
            self.thread.end()
        if self.stint.error is not None:
            raise self.stint.error
        return self.stint.value

    def give_up(self) -> None:
        """It need not begin any more."""
        if not self.begun:
            self.stint.cancelled = True
            self.thread.end()


def _wrap_pools(loop: asyncio.AbstractEventLoop) -> None:
    submit = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def counted(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        scope = current_scope()
        if scope is None or isinstance(self, CallExecutor):
            return submit(self, fn, *args, **kwargs)
        work = _Counted(loop, functools.partial(fn, *args, **kwargs), name_of(fn))
        future = submit(self, work.run)
        # Also where it is cancelled, or its pool is shut down, before it began.
        future.add_done_callback(lambda _: work.give_up())
        scope.adopt(work.thread)
        return future

    ThreadPoolExecutor.submit = counted


def _wrap_threads(loop: asyncio.AbstractEventLoop) -> None:
    start = threading.Thread.start

    @functools.wraps(start)
    def counted(self: threading.Thread) -> None:
        scope = current_scope()
        if scope is None or self.daemon or not _is_own(self):
            return start_thread(start, self)
        work = _Counted(loop, self.run, f"thread `{self.name}`")

        def run() -> None:
            SCOPE.set(scope)
            del self.run  # it refers to the thread, which would be left to the collector
            # Nobody need hear of that end, as of a task that is cancelled.
            with contextlib.suppress(Cancelled):
                work.run()

        self.run = run
        scope.adopt(work.thread)
        try:
            start_thread(start, self)
        except BaseException:
            work.give_up()
            raise
        return None

    threading.Thread.start = counted


def _is_own(thread: threading.Thread) -> bool:
    """Whether a thread runs a program's own code."""
    function: Any = getattr(thread, "_target", None) or type(thread).run
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is None or not code.co_filename.startswith(_LIBRARIES)


def _anyio(loop: asyncio.AbstractEventLoop, run_sync: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run_sync)
    async def counted(func: Any, *args: Any, **options: Any) -> Any:
        scope = current_scope()
        if scope is None:
            return await run_sync(func, *args, **options)
        work = _Counted(loop, functools.partial(func, *args), name_of(func))
        scope.adopt(work.thread)
        try:
            return await run_sync(work.run, **options)
        finally:
            work.give_up()

    return counted
