"""Programs whose answers are read as they are written."""

import asyncio

import dspy

import tower_dspy


class Twice(dspy.Module):
    """Two LM calls of one predictor at once; the first one's answer is the program's."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        calls = (self.ask.acall(question=f"{question} {name}") for name in ("one", "two"))
        first, _ = await asyncio.gather(*calls)
        return first


class Sync(dspy.Module):
    """A program on a thread."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str):
        tower_dspy.status("asking")
        return self.ask(question=question)


class Drafts(dspy.Module):
    """A draft, which is not an output, and the answer, which is not what the LM wrote."""

    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("question -> draft")
        self.final = dspy.Predict("question, draft -> answer")

    async def aforward(self, question: str):
        draft = (await self.draft.acall(question=question)).draft
        answer = await self.final.acall(question=question, draft=draft)
        return dspy.Prediction(answer=answer.answer.upper())
