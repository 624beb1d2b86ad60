"""The loop's default executor.

DSPy's async path hops to a thread several times for each LM call, for work that takes
microseconds. On a shared pool those hops cost more than the work, and a few blocking functions of
a user's program would starve every LM call. Here DSPy's own hops run inline and only the user's
functions get threads. Those cannot be stopped, so each counts as part of its call until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tower_dspy.scope import SCOPE

# Private names of DSPy 3.4, as (module, qualified name). Each only computes.
_HOPS = (
    ("dspy.clients.execution", "prepare"),
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
    """A thread at work for a call, beside the call's tasks. Nothing ends it but itself."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.name = name

    def cancel(self, msg: Any = None) -> bool:
        return False

    def follow(self, work: Future) -> None:
        """Ends with the work of a thread, which says so on the thread."""
        loop = self.get_loop()

        def ended(_: Future) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by then
                loop.call_soon_threadsafe(self.set_result, None)

        work.add_done_callback(ended)


class InlineExecutor(ThreadPoolExecutor):
    """Runs DSPy's hops at once on the loop's thread, and everything else on threads."""

    def __init__(self, hops: frozenset[Any], max_workers: int | None = None) -> None:
        super().__init__(max_workers=max_workers, thread_name_prefix="tower-dspy-user")
        self._hops = hops

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
        work = super().submit(fn, *args, **kw)
        scope = SCOPE.get()
        if scope is not None:
            name = f"thread of {getattr(function, '__qualname__', type(function).__name__)}"
            thread = ThreadOfCall(name, asyncio.get_running_loop())
            # Before anybody else follows the work: whoever awaits it finds the thread ended.
            thread.follow(work)
            scope.adopt(thread)
        return work
