"""The loop's default executor.

DSPy's async path hops to a thread several times for each LM call, for work that takes
microseconds. On a shared pool those hops cost more than the work, and a few blocking functions of
a user's program would starve every LM call. Here DSPy's own hops run inline and only the user's
functions get threads. Each counts as part of its call until it ends, and is stopped with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tower_dspy.interrupt import Stint
from tower_dspy.pool import Job, Pool
from tower_dspy.scope import SCOPE

# Private names of DSPy 3.4, as (module, qualified name). Each only computes.
_HOPS = (
    ("dspy.clients.execution", "prepare"),
    ("dspy.clients.execution", "_price_legacy"),
    ("dspy.clients.execution", "_price_result"),
    ("dspy.clients.capabilities", "capabilities"),
    ("dspy.clients.engines.lm15_engine", "AsyncLM15Engine._target"),
)


def find_hops() -> tuple[frozenset[Any], list[str]]:
    """The functions to run inline, and the names that this DSPy does not have."""
    found, missing = set(), []
    for module, name in _HOPS:
        try:
            value: Any = importlib.import_module(module)
            for part in name.split("."):
                value = getattr(value, part)
        except (ImportError, AttributeError):
            missing.append(f"{module}.{name}")
        else:
            found.add(value)
    return frozenset(found), missing


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


class InlineExecutor(ThreadPoolExecutor):
    """Runs DSPy's hops at once on the loop's thread, and a call's own functions in a pool."""

    def __init__(self, hops: frozenset[Any], pool: Pool) -> None:
        super().__init__(thread_name_prefix="tower-dspy-other")
        self._hops = hops
        self._pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        # asyncio.to_thread submits partial(context.run, function, ...).
        target = getattr(fn, "args", None)
        hop = getattr(target[0], "__func__", target[0]) if target else None
        try:
            inline = hop in self._hops
        except TypeError:  # an unhashable callable of the user's
            inline = False
        if not inline:
            return self._on_a_thread(target[0] if target else fn, fn, *args, **kwargs)
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # what a thread's future would hold
            future.set_exception(error)
        return future

    def _on_a_thread(self, function: Any, fn: Callable[..., Any], *args: Any, **kw: Any) -> Future:
        scope = SCOPE.get()
        if scope is None:
            return super().submit(fn, *args, **kw)
        work: Future = Future()

        def run() -> Any:
            # As a thread pool does: what was cancelled before it began does not begin.
            return fn(*args, **kw) if work.set_running_or_notify_cancel() else None

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
