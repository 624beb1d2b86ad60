"""A program for each type of input."""

from __future__ import annotations

import datetime
import enum
from typing import TYPE_CHECKING, Any, Literal

import dspy
from dspy.adapters.types.document import Document
from pydantic import BaseModel, model_validator

if TYPE_CHECKING:
    from nowhere import Answer, Context


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


Python = dspy.Code["python"]


class Reads(dspy.Signature):
    """Takes what DSPy makes of texts."""

    code: Python = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.InputField()
    answer: str = dspy.OutputField()


class Tags(BaseModel):
    names: list[str]

    @model_validator(mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        return {"names": value.split(",")} if isinstance(value, str) else value


class Mood(enum.Enum):
    CALM = "calm"


class Visit(BaseModel, strict=True):
    day: datetime.datetime
    mood: Mood
    span: tuple[int, int]


class ForTypeCheckers(dspy.Module):
    """Has annotations that do not exist while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, question: str, context: Context = None) -> Answer:
        return await self.qa.acall(question=f"{question} {context}")


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


async def media(audio: dspy.Audio, file: dspy.File, document: Document):
    """Says what became of types that not every provider takes."""
    return {"audio": audio.data, "file": file.filename, "document": document.data}


async def tags_of(tags: Tags):
    return {"names": tags.names}


async def visited(visit: Visit):
    """Says what became of a strict model."""
    assert visit.mood is Mood.CALM
    return {"hour": visit.day.hour, "span": repr(visit.span)}


async def for_type_checkers(value: Context, size: int) -> Answer:
    return {"value": value, "size": size}


async def echo(value):
    return {"value": value}
