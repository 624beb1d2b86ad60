"""LM calls and embeddings, known as such from where DSPy begins them to their answer.

Each is a step of the program: none begins once its call is over, and its answer is counted. The
HTTP requests in between carry its model and its LM, see lm_call.py. An answer for which no request
went through the host came past it: from an LM of another kind, or by a client that is not carried.
Only DSPy's cache, which a program may turn on, answers without a request.
"""

from __future__ import annotations

import functools
from typing import Any

import dspy
from dspy.clients import embedding, execution

from tower_dspy.exchange import blocked
from tower_dspy.forks import leave_if_child
from tower_dspy.gate import pass_or_raise
from tower_dspy.lm_call import CURRENT, HOST_ID, LmCall
from tower_dspy.patches.replace import replace
from tower_dspy.scope import Scope, current_scope


def install() -> None:
    """Makes the changes."""
    replace(dspy.BaseLM, "__call__", _sync)
    replace(dspy.BaseLM, "acall", _async)
    replace(dspy.Embedder, "__call__", _sync)
    replace(dspy.Embedder, "acall", _async)
    replace(execution, "finalize", _with_usage)
    # The host's retry layers retry, within the deadline and their budget.
    replace(execution, "_retryable", lambda _: _never)
    replace(embedding, "_get_litellm", _with_usage_of_embeddings)
    for name in ("_compute_embeddings", "_acompute_embeddings"):
        compute = getattr(embedding, name)
        replace(embedding, f"_cached{name}", functools.partial(_cached_where_on, compute))


def _sync(ask: Any) -> Any:
    @functools.wraps(ask)
    def __call__(lm: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None:
            pass_or_raise(scope)
        lm_call = _begin(lm)
        token = CURRENT.set(lm_call)
        try:
            answer = ask(lm, *args, **kwargs)
        finally:
            CURRENT.reset(token)
        _answered(scope, lm, lm_call, CURRENT.get())
        return answer

    return __call__


def _async(ask: Any) -> Any:
    @functools.wraps(ask)
    async def acall(lm: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None:
            await _pass_or_park(scope)
        lm_call = _begin(lm)
        token = CURRENT.set(lm_call)
        try:
            answer = await ask(lm, *args, **kwargs)
        finally:
            CURRENT.reset(token)
        _answered(scope, lm, lm_call, CURRENT.get())
        return answer

    return acall


async def _pass_or_park(scope: Scope) -> None:
    """Lets a task of a call that is not over pass; see exchange.blocked for all others."""
    leave_if_child()
    if scope.is_over():
        await blocked(scope)


def _begin(lm: Any) -> LmCall:
    model = getattr(lm, "model", "")
    return LmCall(model if isinstance(model, str) else "", getattr(lm, HOST_ID, None))


def _answered(scope: Scope | None, lm: Any, lm_call: LmCall, outer: LmCall | None) -> None:
    if scope is None:
        return
    if outer is not None and outer.exchange is None:
        # An LM that asks another one.
        outer.exchange = lm_call.exchange
    if lm_call.exchange is None and not lm_call.cached and not _computes_here(lm):
        scope.call.bypassed(f"{type(lm).__name__}({lm_call.model})")
    scope.call.stepped(lm_call.exchange, _counts(lm_call.usage))


def _computes_here(lm: Any) -> bool:
    """An embedder may be a function of the program's."""
    return isinstance(lm, dspy.Embedder) and not isinstance(lm.model, str)


def _counts(usage: dict[str, Any]) -> tuple[int, int, int] | None:
    """Tokens of the prompt and the completion, and their total, as DSPy read them."""
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    if not any(isinstance(count, int | float) for count in counts):
        return None
    prompt, completion, total = (
        int(count) if isinstance(count, int | float) and 0 <= count < 1 << 53 else 0
        for count in counts
    )
    return prompt, completion, total or prompt + completion


def _with_usage(finalize: Any) -> Any:
    @functools.wraps(finalize)
    def with_usage(lm: Any, call: Any, result: Any) -> Any:
        lm_call = CURRENT.get()
        if lm_call is not None:
            lm_call.usage = result.usage or {}
            lm_call.cached = result.cache_hit
        return finalize(lm, call, result)

    return with_usage


def _with_usage_of_embeddings(get_litellm: Any) -> Any:
    return lambda: _Embeds(get_litellm())


def _cached_where_on(compute: Any, cached: Any) -> Any:
    """Embeddings by DSPy's cache, which copies texts and model for each request, also while off."""

    @functools.wraps(cached)
    def embeddings(*args: Any, **kwargs: Any) -> Any:
        if not (dspy.cache.enable_memory_cache or dspy.cache.enable_disk_cache):
            return compute(*args, **kwargs)
        lm_call = CURRENT.get()
        if lm_call is not None and lm_call.cached is None:
            lm_call.cached = True  # unless one is asked for below, or by another batch
        return cached(*args, **kwargs)

    return embeddings


class _Embeds:
    """litellm, for embeddings: the tokens of an answer are kept."""

    def __init__(self, litellm: Any) -> None:
        self._litellm = litellm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._litellm, name)

    def embedding(self, *args: Any, **kwargs: Any) -> Any:
        return _counted(self._litellm.embedding(*args, **kwargs))

    async def aembedding(self, *args: Any, **kwargs: Any) -> Any:
        return _counted(await self._litellm.aembedding(*args, **kwargs))


def _counted(answer: Any) -> Any:
    lm_call, usage = CURRENT.get(), getattr(answer, "usage", None)
    if lm_call is not None:
        lm_call.cached = False
        if usage is not None:
            lm_call.usage = dict(usage)
    return answer


def _never(*_: Any) -> bool:
    return False
