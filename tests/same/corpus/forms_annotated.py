"""Annotations that are strings, of which some only a type checker knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dspy
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from answers import Answer

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-form", api_base="http://lm.test/v1"))


class Place(BaseModel):
    city: str


class Postponed(dspy.Module):
    """Annotations that are known once the module is."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("place: str, question -> answer")

    async def aforward(self, place: Place, question: str) -> dspy.Prediction:
        return await self.predict.acall(place=place.city, question=question)


class UnknownReturn(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Answer:
        return await self.predict.acall(question=question)


class UnknownParameter(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("questions -> answer")

    async def aforward(self, questions: Sequence[str]) -> dspy.Prediction:
        return await self.predict.acall(questions=", ".join(questions))
