"""Programs whose answers are hard to write as JSON."""

from __future__ import annotations

import asyncio
import datetime
import math

import dspy
from pydantic import BaseModel


class Point(BaseModel):
    x: int
    tags: list[str]


class Opaque:
    pass


async def rich():
    return dspy.Prediction(
        point=Point(x=1, tags=["a"]),
        day=datetime.date(2024, 2, 29),
        both=(1, 2.5),
        some={"k": None},
    )


async def plain_dict():
    return {"answer": 42}


class Page(BaseModel):
    picture: dspy.Image


class Scalar:
    """A number of numpy's kind."""

    dtype = "int64"

    def item(self) -> int:
        return 3


async def pictures():
    picture = dspy.Image(url="https://example.com/cat.png")
    return dspy.Prediction(
        one=picture, many=[{"k": picture}], page=Page(picture=picture), code=dspy.Code(code="x")
    )


async def scalars():
    return {"n": Scalar(), "many": [Scalar()]}


class Echo(dspy.Module):
    def forward(self, question: str):
        return dspy.Prediction(answer=question)


async def in_parallel():
    example = dspy.Example(question="?").with_inputs("question")
    answers = await asyncio.to_thread(dspy.Parallel(num_threads=2), [(Echo(), example)] * 2)
    return {"answers": [answer.answer for answer in answers]}


async def a_string():
    return "42"


async def nothing():
    return None


async def not_a_number():
    return dspy.Prediction(score=math.nan)


async def infinite():
    return dspy.Prediction(score=[1.0, math.inf])


async def opaque():
    return dspy.Prediction(thing=Opaque())


async def huge_int():
    return dspy.Prediction(n=2**70)


async def bottomless():
    value: list = []
    for _ in range(200):
        value = [value]
    return dspy.Prediction(value=value)


async def itself():
    value: list = []
    value.append(value)
    return dspy.Prediction(value=value)
