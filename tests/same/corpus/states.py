"""A program whose state was saved by each of several versions of DSPy.

The LM that it is loaded with is the caller's: nothing is configured here.
"""

import dspy


class Answer(dspy.Signature):
    """Answer the question."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="often between 1 and 5 words")


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict(Answer)
        self.check = dspy.ChainOfThought("question, draft -> answer")

    def forward(self, question: str):
        draft = self.draft(question=question).answer
        return self.check(question=question, draft=draft)

    async def aforward(self, question: str):
        draft = (await self.draft.acall(question=question)).answer
        return await self.check.acall(question=question, draft=draft)
