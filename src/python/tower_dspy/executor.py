"""The loop's default executor, for what a program hands to `asyncio.to_thread` and the like.

Each such thread counts as part of its call until it ends, and is stopped with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tower_dspy.interrupt import Stint
from tower_dspy.pool import Job, Pool
from tower_dspy.scope import SCOPE


class ThreadOfCall(asyncio.Future):
    """A thread at work for a call, beside the call's tasks. It ends when it does."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        stint: Stint,
        stop: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(loop=loop)
        self.name = name
        self._stint = stint
        self._stop = stop or stint.interrupt
        # Known at once, also where the loop has had no turn since.
        self.over = False

    def cancel(self, msg: Any = None) -> bool:
        """Tells the thread to stop."""
        if not self.over:
            self._stop()
        return False

    def interrupt(self) -> None:
        """The same, from another thread than the loop's."""
        self._stint.interrupt()

    def end(self) -> None:
        """For the thread: its work is over."""
        self.over = True
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            self.get_loop().call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.done():
            self.set_result(None)


def name_of(function: Any) -> str:
    """What a thread that runs `function` is called in logs."""
    while isinstance(function, functools.partial):
        function = function.func
    return f"thread of {getattr(function, '__qualname__', type(function).__name__)}"


class CallExecutor(ThreadPoolExecutor):
    """Runs a call's own functions in a pool, and what belongs to no call as any executor does."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(thread_name_prefix="tower-dspy-other")
        self._pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        scope = SCOPE.get()
        if scope is None:
            return super().submit(fn, *args, **kwargs)
        # asyncio.to_thread submits partial(context.run, function, ...).
        target = getattr(fn, "args", None)
        function = target[0] if target else fn
        work: Future = Future()

        def run() -> Any:
            # As a thread pool does: what was cancelled before it began does not begin.
            return fn(*args, **kwargs) if work.set_running_or_notify_cancel() else None

        def told(job: Job) -> None:
            # Before anybody else hears of it: whoever awaits the work finds the thread ended.
            thread.end()
            if work.cancelled():
                return
            if not work.running():  # the job was told to stop before it began
                work.set_running_or_notify_cancel()
            if job.error is not None:
                work.set_exception(job.error)
            else:
                work.set_result(job.value)

        job = Job(run, told)
        thread = ThreadOfCall(
            name_of(function), asyncio.get_running_loop(), job, lambda: self._pool.cancel(job)
        )
        self._pool.submit(job)
        scope.adopt(thread)
        return work
