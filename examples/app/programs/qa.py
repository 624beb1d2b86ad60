"""Answers a question from passages of a manual."""

from typing import Literal

import dspy


class AnswerFromPassages(dspy.Signature):
    """Answer the question from the passages alone. If they do not answer it, say so."""

    question: str = dspy.InputField()
    passages: list[str] = dspy.InputField()
    audience: Literal["customer", "engineer"] = dspy.InputField(desc="who will read the answer")
    answer: str = dspy.OutputField()
    confidence: float = dspy.OutputField(desc="from 0 to 1")


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.respond = dspy.ChainOfThought(AnswerFromPassages)

    def forward(
        self,
        question: str,
        passages: list[str],
        audience: Literal["customer", "engineer"] = "customer",
    ):
        return self.respond(question=question, passages=passages, audience=audience)
