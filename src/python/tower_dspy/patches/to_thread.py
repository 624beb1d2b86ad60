"""An `asyncio.to_thread` that runs DSPy's own functions inline.

DSPy's async path calls it four times for each LM call, for work that takes microseconds. The switch
of threads costs more than the work, and on a shared pool a few blocking functions of a program
would starve every LM call. A program's own functions go to threads as before.
"""

import asyncio
import contextvars
import functools
import pkgutil
from collections.abc import Callable
from typing import Any

from tower_dspy.patches.replace import replace

# Private names of DSPy 3.4, as (module, qualified name). Each only computes.
_INLINE = (
    ("dspy.clients.execution", "prepare"),
    ("dspy.clients.execution", "_price_legacy"),
    ("dspy.clients.execution", "_price_result"),
    ("dspy.clients.capabilities", "capabilities"),
    ("dspy.clients.engines.lm15_engine", "AsyncLM15Engine._target"),
)


def inline_functions() -> tuple[frozenset[Any], list[str]]:
    """The functions to run inline, and the names that this DSPy does not have."""
    found, missing = set(), []
    for module, name in _INLINE:
        try:
            found.add(pkgutil.resolve_name(f"{module}:{name}"))
        except (ImportError, AttributeError):
            missing.append(f"{module}.{name}")
    return frozenset(found), missing


def install() -> None:
    """Installs the patch. compat.py warns of functions that are missing."""
    replace(asyncio, "to_thread", functools.partial(inlining, inline_functions()[0]))


def inlining(functions: frozenset[Any], to_thread: Callable[..., Any]) -> Callable[..., Any]:
    """`to_thread`, with these functions run at once."""

    @functools.wraps(to_thread)
    async def inline_or_to_thread(func: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            inline = getattr(func, "__func__", func) in functions
        except TypeError:  # a callable that has no hash
            inline = False
        if inline:
            return contextvars.copy_context().run(func, *args, **kwargs)
        return await to_thread(func, *args, **kwargs)

    return inline_or_to_thread
