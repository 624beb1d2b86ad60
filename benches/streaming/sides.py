"""Plain DSPy, as one side of the bench: `sides.py streamify|engine URL`.

Reads lines of "WHAT STREAMS TOKENS" and answers each with one number: for `cpu` the CPU seconds
that the streams took, for `paced` those with 2 ms between two tokens, for `first` the median of the
seconds from when the LM sent its first content until it was read.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from dspy.clients.engines.lm15_engine import AsyncLM15Engine
from dspy.lm15 import Message, Request, RouterConfig, TextPart

_PREDICT = dspy.Predict("question -> answer")
_LMS: dict[str, dspy.LM] = {}


async def streamify(url: str, model: str) -> AsyncIterator[str]:
    """The field as DSPy's own streaming gives it."""
    # One listener reads one stream.
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(_PREDICT, stream_listeners=[listener], is_async_program=True)
    if model not in _LMS:
        options = {"api_base": url, "api_key": "unused", "cache": False, "num_retries": 0}
        _LMS[model] = dspy.LM(f"openai/{model}", **options)
    with dspy.context(lm=_LMS[model]):
        async for part in program(question="?"):
            if isinstance(part, dspy.streaming.StreamResponse):
                yield part.chunk


_ENGINES: dict[str, AsyncLM15Engine] = {}


async def engine(url: str, model: str) -> AsyncIterator[str]:
    """The text as DSPy's engine reads it, without a program."""
    if url not in _ENGINES:
        config = RouterConfig(api_keys={"openai-chat": "unused"}, base_urls={"openai-chat": url})
        _ENGINES[url] = AsyncLM15Engine(config)
    message = Message(role="user", parts=(TextPart(text="?"),))
    request = Request(model=f"openai/{model}", messages=(message,))
    async for event in _ENGINES[url].stream(request):
        if event.type == "delta" and event.delta.type == "text" and "##" not in event.delta.text:
            yield event.delta.text


Read = Callable[[str, str], AsyncIterator[str]]


async def cpu(read: Read, url: str, streams: int, tokens: int, between: int = 0) -> float:
    began = time.process_time()
    for _ in range(streams):
        text = "".join([part async for part in read(url, f"{tokens}-0-{between}")])
        assert len(text.split()) == tokens, text[:200]
    return time.process_time() - began


async def paced(read: Read, url: str, streams: int, tokens: int) -> float:
    return await cpu(read, url, streams, tokens, 2)


async def first(read: Read, url: str, streams: int, _: int) -> float:
    times = []
    for _ in range(streams):
        sent, seen = "", None
        async for part in read(url, "3-20-20"):
            seen = seen or time.time()
            sent += part
        times.append(seen - float(sent.split()[0]))
    return statistics.median(times)


async def serve(read: Read, url: str) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, streams, tokens = line.split()
        measure = {"cpu": cpu, "paced": paced, "first": first}[what]
        print(await measure(read, url, int(streams), int(tokens)), flush=True)


if __name__ == "__main__":
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    print("ready", flush=True)
    asyncio.run(serve({"streamify": streamify, "engine": engine}[sys.argv[1]], sys.argv[2]))
