"""A program that holds something which takes its time to put away."""

import asyncio

import dspy

_OPEN: set[str] = set()
_CLOSED: set[str] = set()


class Research(dspy.Module):
    """Answers a question with a notebook open, and closes it whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str, notebook: str, closing: float) -> dspy.Prediction:
        _OPEN.add(notebook)
        try:
            return await self.answer.acall(question=question)
        finally:
            # As when an upload is finished or a transaction is rolled back.
            await asyncio.sleep(closing)
            _OPEN.remove(notebook)
            _CLOSED.add(notebook)


async def state(notebook: str) -> str:
    """How a notebook is: open, closed or unknown."""
    if notebook in _OPEN:
        return "open"
    return "closed" if notebook in _CLOSED else "unknown"
