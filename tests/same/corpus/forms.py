"""Forms of a program: modules with one form or both, functions, classes, factories."""

import asyncio
import contextvars
from typing import Any

import dspy

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-form", api_base="http://lm.test/v1"))

predict = dspy.Predict("question -> answer")
TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


class SyncOnly(dspy.Module):
    def forward(self, question: str):
        return predict(question=question)


class AsyncOnly(dspy.Module):
    async def aforward(self, question: str):
        return await predict.acall(question=question)


class NewerForward(dspy.ChainOfThought):
    """A class that overrides `forward` alone."""

    def __init__(self):
        super().__init__("question -> answer")

    def forward(self, **kwargs):
        return super().forward(**kwargs)


async def function(question: str, times: int = 1) -> dict[str, Any]:
    """A plain async function."""
    answers = [(await predict.acall(question=f"{question} {n}")).answer for n in range(times)]
    return {"answers": answers}


async def one_field(question: str) -> dspy.Prediction:
    return await predict.acall(question=question)


def factory() -> dspy.Module:
    """A function that builds the program."""
    return dspy.ChainOfThought("question -> answer")


class ReturnsDict(dspy.Module):
    def forward(self, question: str) -> dict[str, Any]:
        return {"question": question, "answer": predict(question=question).answer}


class Nested(dspy.Module):
    """Modules in lists and dicts of modules."""

    def __init__(self):
        super().__init__()
        self.steps = [dspy.Predict("text -> text2"), dspy.Predict("text -> text2")]
        self.named = {"last": dspy.Predict("text -> answer")}

    def forward(self, text: str):
        for step in self.steps:
            text = step(text=text).text2
        return self.named["last"](text=text)


class Contextual(dspy.Module):
    """A context variable that is kept over awaits and into a thread."""

    async def aforward(self, question: str):
        TENANT.set("blue")
        await predict.acall(question=question)
        return dspy.Prediction(tenant=await asyncio.to_thread(TENANT.get))


class RunsLoop(dspy.Module):
    """A sync program that runs a loop of its own."""

    def forward(self, question: str):
        return asyncio.run(predict.acall(question=question))


class BothForms(dspy.Module):
    """Two forms that ask differently."""

    def forward(self, question: str):
        return predict(question=f"sync {question}")

    async def aforward(self, question: str):
        return await predict.acall(question=f"async {question}")


class Defaults(dspy.Module):
    def forward(self, question: str, tone: str = "plain", *, limit: int = 3):
        return predict(question=f"{question} {tone} {limit}")


class TimesOut(dspy.Module):
    """A limit of the program's own, which is not reached."""

    async def aforward(self, question: str):
        return await asyncio.wait_for(predict.acall(question=question), 30)
