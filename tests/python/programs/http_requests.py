"""Programs that send HTTP requests of their own, by httpx and by a provider's SDK."""

from __future__ import annotations

import os

import dspy
import httpx
import openai

import witness

qa = dspy.Predict("question -> answer")
# Has the host put the LM's own key there.
BY_KEY = {"authorization": "Bearer TOWER-DSPY-KEY"}
MESSAGES = [{"role": "user", "content": "?"}]


async def gets(url: str):
    async with httpx.AsyncClient(timeout=60) as client:
        return {"text": (await client.get(url)).text}


class Gets(dspy.Module):
    """The same on a thread."""

    def forward(self, url: str):
        with httpx.Client(timeout=60) as client:
            return {"text": client.get(url).text}


async def tries(key: str, url: str):
    """Says what ended its request."""
    try:
        async with httpx.AsyncClient(timeout=60) as client:
            await client.get(url)
    except BaseException as error:
        witness.note(key, type(error).__name__)
        raise


async def asks_by_sdk(model: str, key: str):
    client = openai.AsyncOpenAI(api_key=key, base_url=witness.lm_url, max_retries=0)
    answer = await client.chat.completions.create(model=model, messages=MESSAGES)
    return {"text": answer.choices[0].message.content}


async def asks_with_what_the_environment_has(model: str):
    """As in a notebook: the SDK finds the key itself."""
    return await asks_by_sdk(model, os.environ["OPENAI_API_KEY"])


async def its_key():
    """What the program has in the place of its LM's key."""
    return {"key": dspy.settings.lm.kwargs["api_key"]}


async def lists_models(key: str, url: str | None = None):
    client = openai.AsyncOpenAI(api_key=key, base_url=url or witness.lm_url, max_retries=0)
    return {"models": len((await client.models.list()).data)}


async def answers(size: int):
    """An answer of that many bytes."""
    return {"text": "x" * size}


async def reads_late(key: str, url: str, lines: int):
    """Reads the first chunk of a stream, and the others once the test opens the gate."""
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("POST", url, headers=BY_KEY) as answer,
    ):
        chunks = answer.aiter_raw()
        body = [await anext(chunks)]
        witness.note(key, "reading")
        await witness.gate(key)
        body += [chunk async for chunk in chunks]
    return {"right": b"".join(body) == numbered(lines)}


class ReadsLate(dspy.Module):
    """The same on a thread."""

    def forward(self, key: str, url: str, lines: int):
        with (
            httpx.Client(timeout=60) as client,
            client.stream("POST", url, headers=BY_KEY) as answer,
        ):
            chunks = answer.iter_raw()
            body = [next(chunks)]
            witness.note(key, "reading")
            # An interrupt reaches a thread between two waits.
            while not witness.thread_gate(key).wait(0.01):
                pass
            body += chunks
        return {"right": b"".join(body) == numbered(lines)}


async def let_read(key: str):
    """For the tests: lets both read on."""
    witness.open_thread_gate(key)
    await witness.open_gate(key)


def numbered(lines: int) -> bytes:
    """The stream that the test's server sends: events of 1 KiB."""
    return b"".join(b"data: %01016d\n\n" % number for number in range(lines))
