"""The shapes in which a program may be given, and those in which it may not."""

from __future__ import annotations

import dspy


class Ask(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.ChainOfThought("question -> answer")

    async def aforward(self, question: str):
        return await self.qa.acall(question=question)


def factory() -> Ask:
    return Ask()


instance = Ask()


class Holder:
    nested = Ask


class Question(dspy.Signature):
    """Answers in a word."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


async def function(question: str):
    return await instance.acall(question=question)


class SyncOnly(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return self.qa(question=question)


class NoWay(dspy.Module):
    """Has no way to be called."""


class Overrides(dspy.ChainOfThought):
    """Inherits an `aforward` that knows nothing of its own `forward`."""

    def __init__(self) -> None:
        super().__init__("question -> answer")

    def forward(self, question: str):
        return {"answer": f"overridden: {super().forward(question=question).answer}"}


def best_of():
    """One of DSPy's modules that are sync only."""
    return dspy.BestOfN(
        dspy.Predict("question -> answer"), N=3, reward_fn=lambda _, made: 1.0, threshold=1.0
    )


class TwoWays(dspy.Module):
    """Hides its fields behind `**kwargs`, and has two predictors to take them from."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.Predict("answer -> verdict")

    async def aforward(self, **kwargs):
        return await self.first.acall(**kwargs)


class OneWay(dspy.Module):
    """Hides its fields behind `**kwargs`, with one predictor."""

    def __init__(self) -> None:
        super().__init__()
        self.only = dspy.Predict("question -> answer")

    async def aforward(self, **kwargs):
        return await self.only.acall(**kwargs)


async def privileged(question: str, config: dict):
    return {}


class PrivilegedField(dspy.Signature):
    demos: str = dspy.InputField()
    answer: str = dspy.OutputField()


async def positional(question: str, /):
    return {}


def sync_function(question: str):
    return {"answer": question}


def needs_arguments(where: str) -> Ask:
    return Ask()


def broken_factory() -> Ask:
    raise LookupError("no weights here")


number = 5


class NotAModule:
    pass
