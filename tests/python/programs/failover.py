"""Programs whose LM is made of several."""

from __future__ import annotations

import asyncio

import dspy

_qa = dspy.Predict("question -> answer")


async def gathers(question: str):
    asked = (_qa.acall(question=f"{question} {n}") for n in range(4))
    return {"answers": [answer.answer for answer in await asyncio.gather(*asked)]}


class Seen(dspy.Module):
    """What DSPy says of an LM call: of the LM's history, and of the tracker of its usage."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer, history: list[str], usage: list[str]")

    async def aforward(self, question: str):
        lm = dspy.settings.lm.copy(temperature=0.25)
        with dspy.track_usage() as tracker:
            await lm.acall(f"{question}, in async code")
        return _seen(lm, tracker)


class SeenSync(Seen):
    def forward(self, question: str):
        lm = dspy.settings.lm.copy(temperature=0.25)
        with dspy.track_usage() as tracker:
            lm(f"{question}, in sync code")
        return _seen(lm, tracker)


def _seen(lm: dspy.LM, tracker) -> dict[str, list[str]]:
    return {
        "answer": "",
        "history": [entry["model"] for entry in lm.history],
        "usage": list(tracker.get_total_tokens()),
    }
