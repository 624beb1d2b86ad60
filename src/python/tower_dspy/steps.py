"""The steps of a program, seen where it asks an LM: counted, and past the end of its call refused.

An LM that a program makes while it runs has no engine of the host's, so that its calls go past the
host: no key, layer, limit or count of tokens of the host's reaches them. They are counted, and the
call of a program that was cancelled makes no further one; the one under way ends with its task, but
on a thread it goes on to its end. What is no `dspy.BaseLM`, such as an embedder or a provider's own
SDK, is not seen here.
"""

from __future__ import annotations

import functools
from typing import Any

import dspy

from tower_dspy.engine import is_of_host, pass_or_park
from tower_dspy.gate import pass_or_raise
from tower_dspy.scope import current_scope


def watch() -> None:
    """Makes each LM tell, once and for all."""
    if hasattr(dspy.BaseLM.acall, "_tower_dspy"):
        return
    dspy.BaseLM.__call__ = _watched(dspy.BaseLM.__call__)
    dspy.BaseLM.acall = _watched_async(dspy.BaseLM.acall)


def _watched(ask: Any) -> Any:
    @functools.wraps(ask)
    def __call__(lm: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is None:
            return ask(lm, *args, **kwargs)
        if not is_of_host(lm):
            pass_or_raise(scope)
            scope.call.bypassed(_name(lm))
        answer = ask(lm, *args, **kwargs)
        scope.call.stepped()
        return answer

    return __call__


def _watched_async(ask: Any) -> Any:
    @functools.wraps(ask)
    async def acall(lm: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is None:
            return await ask(lm, *args, **kwargs)
        if not is_of_host(lm):
            await pass_or_park(scope)
            scope.call.bypassed(_name(lm))
        answer = await ask(lm, *args, **kwargs)
        scope.call.stepped()
        return answer

    acall._tower_dspy = True
    return acall


def _name(lm: Any) -> str:
    return f"{type(lm).__name__}({getattr(lm, 'model', '')})"
