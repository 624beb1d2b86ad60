"""A program that is loaded again and again, and how many of it there are."""

from __future__ import annotations

import gc
import weakref

import dspy

_alive: weakref.WeakSet[dspy.Module] = weakref.WeakSet()


class Counted(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")
        _alive.add(self)

    async def aforward(self, question: str):
        return await self.qa.acall(question=question)


async def alive() -> int:
    gc.collect()
    return len(_alive)
