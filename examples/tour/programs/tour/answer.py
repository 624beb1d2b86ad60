"""A program as small as they come: one question, one LM call."""

import dspy


class Answer(dspy.Module):
    """Answers a question."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.answer.acall(question=question)
