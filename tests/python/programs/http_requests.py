"""Programs that send HTTP requests of their own, by httpx and by a provider's SDK."""

from __future__ import annotations

import os

import dspy
import httpx
import openai

import witness

qa = dspy.Predict("question -> answer")
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
