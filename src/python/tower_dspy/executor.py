"""The loop's default executor.

DSPy's async path hops to a thread several times for each LM call, for work that takes
microseconds. On a shared pool those hops cost more than the work, and a few blocking functions of
a user's program would starve every LM call. Here DSPy's own hops run inline and only the user's
functions get threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

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
            return super().submit(fn, *args, **kwargs)
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # what a thread's future would hold
            future.set_exception(error)
        return future
