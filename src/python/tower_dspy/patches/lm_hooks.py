"""Hooks around LM calls and embeddings, from where DSPy begins them to their answer.

None begins once its call is over, and each answer is counted. The HTTP requests of an LM call carry
its model and its LM, see lm_call.py. An answer for which no request went through the host is
reported as bypassed: it came from an LM of another kind, or by another client than the patched
ones. Only DSPy's cache, which a program may turn on, answers without a request.
"""

import functools
from typing import Any

import dspy
from dspy.clients import embedding, execution

from tower_dspy.call_state import CallState, current_call
from tower_dspy.checkpoint import check_task, check_thread
from tower_dspy.lm_call import CURRENT_LM_CALL, HOST_ID, LmCall
from tower_dspy.patches import embeddings
from tower_dspy.patches.replace import replace


def install() -> None:
    """Installs the patch."""
    replace(dspy.BaseLM, "__call__", _sync)
    replace(dspy.BaseLM, "acall", _async)
    replace(dspy.Embedder, "__call__", _sync)
    replace(dspy.Embedder, "acall", _async)
    replace(execution, "finalize", _with_usage)
    # The host's retry layers retry, within the deadline and their budget.
    replace(execution, "_retryable", lambda _: lambda *_: False)
    replace(embedding, "_get_litellm", _with_usage_of_embeddings)
    for name in ("_compute_embeddings", "_acompute_embeddings"):
        compute = getattr(embedding, name)
        replace(embedding, f"_cached{name}", functools.partial(_cached_if_enabled, compute))


def _sync(ask: Any) -> Any:
    @functools.wraps(ask)
    def __call__(lm: Any, *args: Any, **kwargs: Any) -> Any:
        state = current_call()
        if state is not None:
            check_thread(state)
        with _LmCallScope(state, lm):
            return ask(lm, *args, **kwargs)

    return __call__


def _async(ask: Any) -> Any:
    @functools.wraps(ask)
    async def acall(lm: Any, *args: Any, **kwargs: Any) -> Any:
        state = current_call()
        if state is not None:
            await check_task(state)
        with _LmCallScope(state, lm):
            return await ask(lm, *args, **kwargs)

    return acall


class _LmCallScope:
    """The time of an LM call, for its HTTP requests; reports its answer unless it fails.

    A class: a generator would be kept, with its frame, for as long as the call waits for its LM.
    """

    __slots__ = ("_lm", "_lm_call", "_state", "_token")

    def __init__(self, state: CallState | None, lm: Any) -> None:
        model = getattr(lm, "model", "")
        self._lm_call = LmCall(
            model if isinstance(model, str) else "",
            getattr(lm, HOST_ID, None),
            is_embedding=isinstance(lm, dspy.Embedder),
        )
        self._state = state
        self._lm = lm

    def __enter__(self) -> None:
        self._token = CURRENT_LM_CALL.set(self._lm_call)

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        CURRENT_LM_CALL.reset(self._token)
        if error is None and self._state is not None:
            _report_answer(self._state, self._lm, self._lm_call, CURRENT_LM_CALL.get())


def _report_answer(state: CallState, lm: Any, lm_call: LmCall, outer: LmCall | None) -> None:
    if outer is not None and outer.exchange is None:
        # An LM that calls another one.
        outer.exchange = lm_call.exchange
    is_function = isinstance(lm, dspy.Embedder) and not isinstance(lm.model, str)
    if lm_call.exchange is None and not lm_call.cached and not is_function:
        state.call.bypassed(f"{type(lm).__name__}({lm_call.model})")
    state.call.stepped(lm_call.exchange, _counts(lm_call.usage))


def _counts(usage: dict[str, Any]) -> tuple[int, int, int] | None:
    """The tokens of the prompt and the completion, and their total, as DSPy read them."""
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
        lm_call = CURRENT_LM_CALL.get()
        if lm_call is not None:
            lm_call.usage = result.usage or {}
            lm_call.cached = result.cache_hit
            lm, call = lm_call.answered or (lm, call)
        return finalize(lm, call, result)

    return with_usage


def _with_usage_of_embeddings(get_litellm: Any) -> Any:
    return lambda: _EmbeddingUsage(get_litellm())


def _cached_if_enabled(compute: Any, cached: Any) -> Any:
    """Embeddings without DSPy's cache while it is off: it would copy the texts all the same."""

    @functools.wraps(cached)
    def cached_if_enabled(*args: Any, **kwargs: Any) -> Any:
        if not (dspy.cache.enable_memory_cache or dspy.cache.enable_disk_cache):
            return compute(*args, **kwargs)
        lm_call = CURRENT_LM_CALL.get()
        if lm_call is not None and lm_call.cached is None:
            lm_call.cached = True  # unless a request is made below, or by another batch
        return cached(*args, **kwargs)

    return cached_if_enabled


class _EmbeddingUsage:
    """A proxy of litellm that records the tokens of its embeddings."""

    def __init__(self, litellm: Any) -> None:
        self._litellm = litellm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._litellm, name)

    def embedding(self, *args: Any, **kwargs: Any) -> Any:
        with embeddings.vectors_only(self._litellm, kwargs):
            return _counted(self._litellm.embedding(*args, **kwargs))

    async def aembedding(self, *args: Any, **kwargs: Any) -> Any:
        with embeddings.vectors_only(self._litellm, kwargs):
            return _counted(await self._litellm.aembedding(*args, **kwargs))


def _counted(answer: Any) -> Any:
    lm_call, usage = CURRENT_LM_CALL.get(), getattr(answer, "usage", None)
    if lm_call is not None:
        lm_call.cached = False
        if usage is not None:
            lm_call.usage = dict(usage)
    return answer
