"""DSPy without this crate, as one side of the bench: `sides.py native|litellm|canned|rag URL`.

`rag` is the program of examples/rag with litellm. Reads lines of "PREDICTIONS AT_ONCE" and answers
each with the CPU seconds that it took.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from dspy._vendor.lm15.transports import AsyncTransportResponse
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine
from dspy.lm15 import RouterConfig

_ANSWER = (
    b'{"id":"1","object":"chat.completion","created":0,"model":"bench","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"[[ ## answer ## ]]\\nYou said: What is 123?\\n\\n'
    b'[[ ## completed ## ]]"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,'
    b'"completion_tokens":14,"total_tokens":114}}'
)


class Canned:
    """A transport that has the answer already."""

    def stream(self, _: Any) -> Canned:
        return self

    async def __aenter__(self) -> AsyncTransportResponse:
        async def chunks() -> Any:
            yield _ANSWER

        async def release(_: bool) -> None:
            pass

        return AsyncTransportResponse(
            status=200,
            reason="OK",
            headers=[("content-type", "application/json")],
            http_version="HTTP/1.1",
            chunks=chunks(),
            release=release,
        )

    async def __aexit__(self, *_: Any) -> None:
        pass


def lm_of(side: str, url: str) -> dspy.LM:
    rules = {"cache": False, "num_retries": 0}
    if side == "canned":
        keys = {"openai": "unused"}
        return dspy.LM(
            "openai/bench",
            engine=LM15Engine(RouterConfig(api_keys=keys)),
            async_engine=AsyncLM15Engine(RouterConfig(transport=Canned(), api_keys=keys)),
            **rules,
        )
    engine = "auto" if side == "native" else "litellm"
    return dspy.LM("openai/bench", engine=engine, api_base=url, api_key="unused", **rules)


async def program_of(side: str, url: str) -> dspy.Module:
    if side != "rag":
        return dspy.Predict("question -> answer")
    import rag  # the bench puts it on the path

    await rag.ingest(rag_passages(), {"api_base": url, "api_key": "unused"})
    return rag.RagByIndex()


def rag_passages() -> list[str]:
    """As in rag.rs."""
    return [f"Passage {n} is about question {n % 16} and its answer." for n in range(256)]


async def predictions(program: dspy.Module, many: int, at_once: int) -> None:
    numbers = iter(range(many))

    async def client() -> None:
        for n in numbers:
            await program.acall(question=f"What is {n}?")

    await asyncio.gather(*[client() for _ in range(at_once)])


async def serve(side: str, url: str) -> None:
    loop = asyncio.get_running_loop()
    program = await program_of(side, url)
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        many, at_once = map(int, line.split())
        began = time.process_time()
        await predictions(program, many, at_once)
        print(time.process_time() - began, flush=True)


if __name__ == "__main__":
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.configure(lm=lm_of(*sys.argv[1:3]))
    asyncio.run(serve(*sys.argv[1:3]))
