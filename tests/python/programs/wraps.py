"""Programs whose LM calls fail, and that let the failure out wrapped in something else."""

from __future__ import annotations

import asyncio

import dspy


class Unanswered(Exception):
    """An exception of the program's own module."""


class Asks(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")


class Together(Asks):
    async def aforward(self, question: str):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(self.ask.acall(question=question))


class Caused(Asks):
    async def aforward(self, question: str):
        try:
            await self.ask.acall(question=question)
        except Exception as error:
            raise Unanswered(f"no answer to {question}") from error


class Beside(Asks):
    """Fails by itself while it handles the LM's failure."""

    async def aforward(self, question: str):
        try:
            await self.ask.acall(question=question)
        except Exception:
            {}[question]


class InParallel(Asks):
    def forward(self, question: str):
        run = dspy.Parallel(num_threads=2, max_errors=1, disable_progress_bar=True)
        return {"answers": run([(self.ask, {"question": question})] * 2)}


class InBatch(Asks):
    def forward(self, question: str):
        examples = [dspy.Example(question=question).with_inputs("question")] * 2
        return {
            "answers": self.ask.batch(
                examples, num_threads=1, max_errors=1, disable_progress_bar=True
            )
        }
