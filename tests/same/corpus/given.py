"""Programs with no LM of their own, for the LM that their caller gives."""

from typing import Literal

import dspy
from pydantic import BaseModel

qa = dspy.Predict("question -> answer")


class Verdict(BaseModel):
    label: Literal["yes", "no"]
    score: float = 0.0


class Judge(dspy.Signature):
    question: str = dspy.InputField()
    verdicts: list[Verdict] = dspy.OutputField()
    count: int = dspy.OutputField()


class Structured(dspy.Module):
    """Structured outputs, as far as the provider has them."""

    def __init__(self):
        super().__init__()
        self.judge = dspy.Predict(Judge)

    def forward(self, question: str):
        with dspy.context(adapter=dspy.JSONAdapter()):
            return self.judge(question=question)

    async def aforward(self, question: str):
        with dspy.context(adapter=dspy.JSONAdapter()):
            return await self.judge.acall(question=question)


def lookup(word: str, exact: bool = True) -> str:
    """Look a word up."""
    return word


class Choose(dspy.Signature):
    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


class Tools(dspy.Module):
    """Native tool calls, as far as the provider has them."""

    def __init__(self):
        super().__init__()
        self.choose = dspy.Predict(Choose)

    def chosen(self, prediction) -> dspy.Prediction:
        calls = prediction.calls.tool_calls if prediction.calls else []
        return dspy.Prediction(calls=[[call.name, call.args] for call in calls])

    def forward(self, question: str):
        with dspy.context(adapter=dspy.JSONAdapter()):
            return self.chosen(self.choose(question=question, tools=[dspy.Tool(lookup)]))

    async def aforward(self, question: str):
        with dspy.context(adapter=dspy.JSONAdapter()):
            prediction = await self.choose.acall(question=question, tools=[dspy.Tool(lookup)])
            return self.chosen(prediction)
