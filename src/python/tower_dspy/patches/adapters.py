"""Hooks around the use of an adapter, which tell the text of its LM call apart by fields.

An LM call knows neither the signature nor the adapter that will parse its answer. The use of an
adapter knows both, see adapter_call.py. Before and after its LM call it waits for a reader who has
much unread. In a call that is not streamed the hooks do nothing.
"""

import functools
from typing import Any

import dspy

from tower_dspy.adapter_call import CURRENT_ADAPTER_CALL, AdapterCall
from tower_dspy.call_state import current_call
from tower_dspy.patches.replace import replace


def install() -> None:
    """Installs the patch. Adapters that DSPy derives from others call the methods of the base."""
    replace(dspy.Adapter, "__call__", _sync)
    replace(dspy.Adapter, "acall", _async)
    replace(dspy.Adapter, "_call_preprocess", _with_signature)
    replace(dspy.Adapter, "_call_postprocess", _with_outputs)


def _start(adapter: Any, signature: Any) -> AdapterCall | None:
    state = current_call()
    if state is None or state.stream is None:
        return None
    return AdapterCall(adapter, signature, state.stream)


def _sync(use: Any) -> Any:
    @functools.wraps(use)
    def __call__(adapter: Any, lm: Any, lm_kwargs: Any, signature: Any, *args: Any, **kw: Any):
        adapter_call = _start(adapter, signature)
        if adapter_call is None:
            return use(adapter, lm, lm_kwargs, signature, *args, **kw)
        if adapter_call.is_full():
            adapter_call.wait_on_thread()
        token = CURRENT_ADAPTER_CALL.set(adapter_call)
        try:
            values = use(adapter, lm, lm_kwargs, signature, *args, **kw)
        except BaseException:
            adapter_call.fail()
            raise
        finally:
            CURRENT_ADAPTER_CALL.reset(token)
        adapter_call.finish(values)
        if adapter_call.is_full():
            adapter_call.wait_on_thread()
        return values

    return __call__


def _async(use: Any) -> Any:
    @functools.wraps(use)
    async def acall(adapter: Any, lm: Any, lm_kwargs: Any, signature: Any, *args: Any, **kw: Any):
        adapter_call = _start(adapter, signature)
        if adapter_call is None:
            return await use(adapter, lm, lm_kwargs, signature, *args, **kw)
        if adapter_call.is_full():
            await adapter_call.wait()
        token = CURRENT_ADAPTER_CALL.set(adapter_call)
        try:
            values = await use(adapter, lm, lm_kwargs, signature, *args, **kw)
        except BaseException:
            adapter_call.fail()
            raise
        finally:
            CURRENT_ADAPTER_CALL.reset(token)
        adapter_call.finish(values)
        if adapter_call.is_full():
            await adapter_call.wait()
        return values

    return acall


def _with_signature(preprocess: Any) -> Any:
    @functools.wraps(preprocess)
    def with_signature(*args: Any, **kwargs: Any) -> Any:
        # Without the fields that the LM returns beside its text.
        signature = preprocess(*args, **kwargs)
        adapter_call = CURRENT_ADAPTER_CALL.get()
        if adapter_call is not None:
            adapter_call.signature = signature
        return signature

    return with_signature


def _with_outputs(postprocess: Any) -> Any:
    @functools.wraps(postprocess)
    def with_outputs(
        adapter: Any, processed: Any, original: Any, outputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        adapter_call = CURRENT_ADAPTER_CALL.get()
        if adapter_call is not None:
            adapter_call.outputs = outputs
        return postprocess(adapter, processed, original, outputs, *args, **kwargs)

    return with_outputs
