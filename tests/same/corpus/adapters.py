"""Adapters: what a prompt looks like and how its answer is read."""

from typing import Literal

import dspy
from dspy.adapters.baml_adapter import BAMLAdapter
from pydantic import BaseModel, Field

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-adapt", api_base="http://lm.test/v1"))


class Address(BaseModel):
    street: str
    city: str = Field(description="with its country")


class Patient(BaseModel):
    name: str
    age: int
    address: Address | None = None


class Extract(dspy.Signature):
    """Extract the patient."""

    note: str = dspy.InputField()
    patient: Patient = dspy.OutputField()
    urgency: Literal["low", "high"] = dspy.OutputField()


class With(dspy.Module):
    """A predictor that is called with an adapter of its own."""

    def __init__(self, adapter, signature=Extract):
        super().__init__()
        self.adapter = adapter
        self.predict = dspy.Predict(signature)

    def forward(self, note: str):
        with dspy.context(adapter=self.adapter):
            return self.predict(note=note)

    async def aforward(self, note: str):
        with dspy.context(adapter=self.adapter):
            return await self.predict.acall(note=note)


chat = With(dspy.ChatAdapter())
chat_no_fallback = With(dspy.ChatAdapter(use_json_adapter_fallback=False))
json = With(dspy.JSONAdapter())
json_dict = With(dspy.JSONAdapter(), "note -> facts: dict, words: list")
xml = With(dspy.XMLAdapter())
baml = With(BAMLAdapter())
two_step = With(
    dspy.TwoStepAdapter(
        dspy.LM("openai/gpt-4o", api_key="sk-extractor", api_base="http://lm.test/v1")
    )
)


class Both(dspy.Module):
    """Two predictors, each with another adapter."""

    def __init__(self):
        super().__init__()
        self.title = dspy.Predict("note -> title")
        self.extract = dspy.Predict(Extract)

    async def aforward(self, note: str):
        with dspy.context(adapter=dspy.XMLAdapter()):
            title = (await self.title.acall(note=note)).title
        with dspy.context(adapter=dspy.JSONAdapter()):
            extracted = await self.extract.acall(note=note)
        return dspy.Prediction(title=title, urgency=extracted.urgency)
