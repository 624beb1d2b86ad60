"""LMs and adapters of a program's own classes."""

import json
import urllib.request

import dspy
from dspy.lm15 import Message, Request, Response, Usage
from dspy.utils import DummyLM

ANSWER = "[[ ## answer ## ]]\nown\n\n[[ ## completed ## ]]"


class Canned:
    """An engine that asks nobody."""

    def complete(self, request: Request) -> Response:
        message = Message.assistant(ANSWER)
        return Response(None, request.model, message, "stop", Usage(1, 2, 3))


class AsyncCanned:
    async def complete(self, request: Request) -> Response:
        return Canned().complete(request)


class Own(dspy.LM):
    """A subclass of DSPy's LM."""


def qa(lm) -> dspy.Predict:
    predict = dspy.Predict("question -> answer")
    predict.set_lm(lm)
    return predict


def engine() -> dspy.Module:
    return qa(dspy.LM("own/model", engine=Canned(), async_engine=AsyncCanned()))


def dummy() -> dspy.Module:
    return qa(DummyLM([{"answer": "red"}, {"answer": "blue"}]))


def subclass() -> dspy.Module:
    return qa(Own("openai/gpt-4o-mini", api_key="sk-sub", api_base="http://lm.test/v1"))


class Brief(dspy.ChatAdapter):
    """An adapter of the program's own."""

    def format_task_description(self, signature) -> str:
        return "Be brief."


class WithAdapter(dspy.Module):
    def __init__(self):
        super().__init__()
        lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-own", api_base="http://lm.test/v1")
        self.predict = qa(lm)

    def forward(self, question: str):
        with dspy.context(adapter=Brief()):
            return self.predict(question=question)

    async def aforward(self, question: str):
        with dspy.context(adapter=Brief()):
            return await self.predict.acall(question=question)


class OwnRequests(dspy.Module):
    """A program that asks an LM with no DSPy at all."""

    def forward(self, question: str):
        body = {"model": "raw", "messages": [{"role": "user", "content": question}]}
        request = urllib.request.Request(
            "http://lm.test/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": "Bearer sk-raw"},
        )
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
        return dspy.Prediction(answer=answer["choices"][0]["message"]["content"])
