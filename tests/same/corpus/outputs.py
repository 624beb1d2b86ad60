"""Types of outputs, and how what an LM answers becomes them."""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Literal

import dspy
from dspy.experimental import Citations, Document
from pydantic import BaseModel, Field

KEY = "sk-out"
dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key=KEY, api_base="http://lm.test/v1"))


class Level(Enum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    city: str
    zip: str | None = None


class Customer(BaseModel):
    name: str
    born: date
    level: Level
    addresses: list[Address] = Field(default_factory=list)
    extra: dict[str, int] = {}


class Everything(dspy.Signature):
    text: str = dspy.InputField()
    customer: Customer = dspy.OutputField()
    customers: list[Customer] = dspy.OutputField()
    flag: bool = dspy.OutputField()
    ratio: float = dspy.OutputField()
    count: int = dspy.OutputField()
    tags: list[str] = dspy.OutputField()
    scores: dict[str, float] = dspy.OutputField()
    maybe: int | None = dspy.OutputField()
    size: Literal["S", "M"] = dspy.OutputField()
    union: int | str = dspy.OutputField()
    when: date = dspy.OutputField()
    level: Level = dspy.OutputField()


everything = dspy.Predict(Everything)


@dataclass
class Point:
    x: int
    y: int = 0


class Draw(dspy.Signature):
    text: str = dspy.InputField()
    points: list[Point] = dspy.OutputField()


class Write(dspy.Signature):
    """Write a program."""

    question: str = dspy.InputField()
    code: dspy.Code["java"] = dspy.OutputField()  # noqa: F821


class Pick(dspy.Signature):
    question: str = dspy.InputField()
    image: dspy.Image = dspy.OutputField()
    document: Document = dspy.OutputField()


class Reason(dspy.Signature):
    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


class Ask(dspy.Signature):
    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


class Cited(dspy.Signature):
    documents: list[Document] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: Citations = dspy.OutputField()


cited = dspy.Predict(Cited)
cited.set_lm(dspy.LM("anthropic/claude-sonnet-4-5", api_key=KEY, api_base="http://lm.test/v1"))


def reasoned(model: str, **options) -> dspy.Predict:
    predict = dspy.Predict(Reason)
    predict.set_lm(dspy.LM(model, api_key=KEY, api_base="http://lm.test/v1", **options))
    return predict


reasoning_responses = reasoned("openai/gpt-5-mini", model_type="responses", reasoning_effort="low")
reasoning_anthropic = reasoned("anthropic/claude-sonnet-4-5", reasoning_effort="low")
reasoning_text = reasoned("openai/gpt-4o-mini")


class Raw(dspy.Module):
    """A program that returns more than its predictor gave it."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> label")

    async def aforward(self, text: str):
        label = (await self.predict.acall(text=text)).label
        return dspy.Prediction(
            label=label,
            customer=Customer(name="Ann", born=date(2000, 1, 2), level=Level.HIGH),
            nested={"list": [1, 2.5, None, True], "when": date(2024, 2, 29)},
        )


async def floats(values: list[float]) -> dict:
    """Numbers to the last bit, which a text of theirs shows."""
    return {"values": values, "texts": [repr(value) for value in values]}
