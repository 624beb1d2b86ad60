"""A program for each type of input."""

from __future__ import annotations

from typing import Literal

import dspy
from pydantic import BaseModel


class Address(BaseModel):
    street: str
    number: int


class Person(BaseModel):
    name: str
    home: Address


class Rich(dspy.Signature):
    """Takes everything."""

    question: str = dspy.InputField()
    passages: list[str] = dspy.InputField()
    mood: Literal["calm", "cross"] = dspy.InputField()
    person: Person = dspy.InputField()
    limit: int = dspy.InputField()
    ratio: float = dspy.InputField()
    flag: bool = dspy.InputField()
    note: str | None = dspy.InputField()
    answer: str = dspy.OutputField()


class Chat(dspy.Signature):
    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Looks(dspy.Signature):
    picture: dspy.Image = dspy.InputField()
    answer: str = dspy.OutputField()


class Defaults(dspy.Module):
    """Has parameters of its own, one optional and one reserved."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, question: str, style: str = "short", config: dict | None = None):
        answer = await self.qa.acall(question=f"{question} ({style})")
        return dspy.Prediction(answer=answer.answer, config=config)


async def types_of(person: Person, mood: Literal["calm", "cross"], sizes: list[int]):
    """Says what its inputs became."""
    return {"person": type(person).__name__, "street": person.home.street, "sum": sum(sizes)}


async def echo(value):
    return {"value": value}
