"""Programs whose text has half of a pair of surrogates, which no UTF-8 can hold."""

from __future__ import annotations

import asyncio
import logging

import dspy

import tower_dspy

HALF = "half \ud83d"


async def raises(key: str):
    raise ValueError(HALF)


async def answers(key: str):
    return {"answer": HALF, HALF: [HALF, "\ud83d\ude00"]}


async def logs(key: str):
    logging.getLogger("dspy").error("logged %s", HALF)
    return {"answer": "done"}


async def leaves_a_task(key: str):
    left = asyncio.sleep(3600)
    left.__qualname__ = HALF
    asyncio.create_task(left)  # noqa: RUF006
    await asyncio.sleep(0)
    return {"answer": "done"}


class Drafts(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        tower_dspy.partial(answer=HALF)
        return await self.ask.acall(question=question)


class WithTool(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        (self.tool,) = tower_dspy.tools("echo")

    async def aforward(self, question: str):
        return {"answer": await self.tool.acall(text=HALF)}
