"""The loop's default executor, which runs the functions of `asyncio.to_thread`.

Each function is part of its call until it returns, and is stopped with it.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any

from tower_dspy.call_state import CURRENT_CALL, is_in_finalizer, run_in_call
from tower_dspy.call_work import CallWork
from tower_dspy.interrupt import InterruptibleRun
from tower_dspy.pool import Job, Pool
from tower_dspy.trace_context import carried


class CallThread(CallWork):
    """A thread of a call."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        run: InterruptibleRun,
        stop: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(name, loop)
        self._run = run
        self._stop = stop or run.interrupt
        self._begun = False

    def execute(self) -> Any:
        """Runs the work here; returns what its function returns and raises what that raises."""
        self._begun = True
        self._run.execute()
        self.end()
        if self._run.error is not None:
            raise self._run.error
        return self._run.value

    def cancel(self, msg: Any = None) -> bool:
        """Interrupts the thread's work."""
        if not self.over:
            self._stop()
        return False

    def cancel_unless_begun(self) -> None:
        """Ends work that has not begun, and will not."""
        if not self._begun:
            self._run.cancelled = True
            self.end()

    def interrupt(self) -> None:
        """Interrupts the thread's work, from any thread."""
        self._run.interrupt()


def thread_name(function: Any) -> str:
    """The name in logs of a thread that runs `function`."""
    while isinstance(function, functools.partial):
        function = function.func
    return f"thread of {getattr(function, '__qualname__', type(function).__name__)}"


class CallExecutor(ThreadPoolExecutor):
    """An executor that runs the functions of calls in a pool of their own."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(thread_name_prefix="tower-dspy-other")
        self._pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        state = CURRENT_CALL.get()
        if state is None or is_in_finalizer():
            return super().submit(fn, *args, **kwargs)
        # asyncio.to_thread submits partial(context.run, function, ...).
        target = getattr(fn, "args", None)
        function = target[0] if target else fn
        work: Future = Future()

        def run() -> Any:
            # As a thread pool does: work that was cancelled before it began does not begin.
            if not work.set_running_or_notify_cancel():
                return None
            return run_in_call(state, functools.partial(fn, *args, **kwargs))

        def on_result(job: Job) -> None:
            # Before the result is set: code that awaits it finds the thread ended.
            thread.end()
            with contextlib.suppress(InvalidStateError):  # it was cancelled
                if job.error is not None:
                    work.set_exception(job.error)
                else:
                    work.set_result(job.value)
            # The frames of its traceback refer to the job.
            job.error = None

        job = Job(carried(run), on_result=on_result)
        thread = CallThread(
            thread_name(function), asyncio.get_running_loop(), job, lambda: self._pool.cancel(job)
        )
        self._pool.submit(job)
        state.add_child(thread)
        return work
