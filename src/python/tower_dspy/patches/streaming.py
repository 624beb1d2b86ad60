"""LM calls that are streamed by their LM, where DSPy waits for the whole answer.

DSPy streams by a queue of anyio in its settings, which has to be read by the same event loop. Here
an engine's `complete` reads the engine's own stream, sends its text to the reader of the call, and
returns the answer that DSPy's accumulator makes of it. The requests are those of DSPy's own stream.
Answers of engines and servers that do not stream are sent as one piece, see adapter_call.py.
"""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspy._vendor.lm15 import types
from dspy._vendor.lm15.providers.base import HttpResponse
from dspy._vendor.lm15.result import StreamAccumulator
from dspy.clients import execution, lm
from dspy.clients._litellm import get_litellm
from dspy.clients.engines import lm15_engine
from dspy.clients.engines.lifecycle import aclosing_stream, closing_stream
from dspy.clients.engines.stream_guard import achecked_stream, checked_stream
from dspy.lm15 import StreamAssemblyError

from tower_dspy.adapter_call import CURRENT_ADAPTER_CALL, AdapterCall
from tower_dspy.lm_call import CURRENT_LM_CALL
from tower_dspy.patches.lm15 import WholeAnswer
from tower_dspy.patches.replace import replace


def install() -> None:
    """Installs the patch."""
    replace(lm15_engine.LM15Engine, "complete", _sync)
    replace(lm15_engine.AsyncLM15Engine, "complete", _async)
    replace(lm, "_get_stream_completion_fn", _of_litellm)
    replace(types.TextDelta, "__post_init__", _checked_unless_plain)


def _sync(ask: Any) -> Any:
    @functools.wraps(ask)
    def complete(engine: Any, request: Any) -> Any:
        adapter_call = CURRENT_ADAPTER_CALL.get()
        if adapter_call is None or not adapter_call.take():
            return ask(engine, request)
        provider, routed = engine._target(request)
        if not provider.supports.stream:
            return provider.complete(routed)
        accumulator = StreamAccumulator(request)
        try:
            with _streamed(adapter_call, accumulator):
                events = checked_stream(provider.stream(routed), provider=provider.provider)
                with closing_stream(events):
                    for event in events:
                        accumulator.push(event)
                        if event.type == "delta" and _send(adapter_call, event.delta):
                            adapter_call.wait_on_thread()
                return accumulator.response()
        except WholeAnswer as answer:
            return provider.parse_response(routed, _http_response(answer, provider))

    return complete


def _async(ask: Any) -> Any:
    @functools.wraps(ask)
    async def complete(engine: Any, request: Any) -> Any:
        adapter_call = CURRENT_ADAPTER_CALL.get()
        if adapter_call is None or not adapter_call.take():
            return await ask(engine, request)
        # As DSPy does: it may read credentials.
        provider, routed = await asyncio.to_thread(engine._target, request)
        if not provider.supports.stream:
            return await provider.complete(routed)
        accumulator = StreamAccumulator(request)
        try:
            with _streamed(adapter_call, accumulator):
                events = achecked_stream(provider.stream(routed), provider=provider.provider)
                async with aclosing_stream(events):
                    async for event in events:
                        accumulator.push(event)
                        if event.type == "delta" and _send(adapter_call, event.delta):
                            await adapter_call.wait()
                return accumulator.response()
        except WholeAnswer as answer:
            return provider._inner.parse_response(routed, _http_response(answer, provider))

    return complete


@contextmanager
def _streamed(adapter_call: AdapterCall, accumulator: Any = None) -> Iterator[None]:
    """The time of an LM call that is streamed. Its text is taken back if it fails."""
    lm_call = CURRENT_LM_CALL.get()
    if lm_call is not None:
        lm_call.is_streamed = True
    try:
        yield
    except BaseException as error:
        if lm_call is not None:
            lm_call.is_shown = adapter_call.has_begun()
        adapter_call.fail()
        if isinstance(error, StreamAssemblyError) and error.partial is None:
            # DSPy counts its tokens, and shows it on the error.
            error.partial = execution._partial(accumulator)
        raise
    finally:
        if lm_call is not None:
            lm_call.is_streamed = False


def _http_response(answer: WholeAnswer, provider: Any) -> HttpResponse:
    return HttpResponse(200, "", answer.headers, answer.body, provider=provider.provider)


def _send(adapter_call: AdapterCall, delta: Any) -> bool:
    """Sends a part of an answer; returns whether to wait before more is sent."""
    if delta.type == "text":
        return bool(delta.text) and adapter_call.text(delta.text)
    if delta.type == "thinking":
        return bool(delta.text) and adapter_call.thinking(delta.text)
    return False


def _of_litellm(get: Any) -> Any:
    @functools.wraps(get)
    def get_stream_completion(
        request: dict[str, Any], cache_kwargs: Any, sync: bool = True, headers: Any = None
    ) -> Any:
        adapter_call = CURRENT_ADAPTER_CALL.get()
        # litellm mixes the texts of several answers.
        is_single = request.get("n") in (None, 1)
        if adapter_call is None or not is_single or not adapter_call.take():
            return get(request, cache_kwargs, sync, headers)
        options = {
            "num_retries": 0,
            "cache": cache_kwargs,
            "stream": True,
            "stream_options": {"include_usage": True},
            "headers": headers,
            **request,
        }
        complete = _complete if sync else _acomplete
        return functools.partial(complete, adapter_call, get_litellm(feature="dspy.LM"), options)

    return get_stream_completion


def _complete(adapter_call: AdapterCall, litellm: Any, options: dict[str, Any]) -> Any:
    chunks = []
    with _streamed(adapter_call), closing_stream(litellm.completion(**options)) as source:
        for chunk in source:
            chunks.append(chunk)
            if _send_chunk(adapter_call, chunk):
                adapter_call.wait_on_thread()
        return litellm.stream_chunk_builder(chunks)


async def _acomplete(adapter_call: AdapterCall, litellm: Any, options: dict[str, Any]) -> Any:
    chunks = []
    with _streamed(adapter_call):
        async with aclosing_stream(await litellm.acompletion(**options)) as source:
            async for chunk in source:
                chunks.append(chunk)
                if _send_chunk(adapter_call, chunk):
                    await adapter_call.wait()
            return litellm.stream_chunk_builder(chunks)


def _send_chunk(adapter_call: AdapterCall, chunk: Any) -> bool:
    """Sends a chunk of litellm; returns whether to wait before more is sent."""
    full = False
    for choice in chunk.choices[:1]:
        thinking = getattr(choice.delta, "reasoning_content", None)
        if thinking:
            full = adapter_call.thinking(thinking)
        if choice.delta.content:
            full = adapter_call.text(choice.delta.content)
    return full


def _checked_unless_plain(check: Any) -> Any:
    """The check of a delta, which costs a third of its way from the socket, where it may fail."""

    @functools.wraps(check)
    def __post_init__(delta: types.TextDelta) -> None:
        is_plain = (
            type(delta.text) is str
            and type(delta.part_index) is int
            and delta.part_index >= 0
            and delta.logprobs == ()
            and delta.logprobs_complete is True
        )
        if not is_plain:
            check(delta)

    return __post_init__
