"""Programs that leave partial answers, and that ask LMs past the host."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from types import SimpleNamespace

import dspy

import tower_dspy
import witness
from witness import gate, note

qa = dspy.Predict("question -> answer")


class Drafts(dspy.Module):
    """Leaves a draft before it asks; its signature says what it answers with."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, **inputs):
        tower_dspy.partial(answer="a first draft")
        tower_dspy.partial(answer="a draft")
        return await self.qa.acall(**inputs)


class ReportsCost(dspy.Module):
    """Answers with the cost that DSPy estimates."""

    async def aforward(self, question: str):
        answer = await qa.acall(question=question)
        cost = dspy.settings.lm.history[-1]["cost"]
        return dspy.Prediction(answer=answer.answer, cost=cost)


class Misnames(Drafts):
    async def aforward(self, **inputs):
        tower_dspy.partial(reply="?")
        return await super().aforward(**inputs)


class Mistypes(Drafts):
    async def aforward(self, **inputs):
        tower_dspy.partial(answer=["a", "list"])
        return await super().aforward(**inputs)


async def drafts_and_blocks(port: int):
    """Leaves a draft and holds the GIL."""
    tower_dspy.partial(answer="before the block", sources=[1, {"page": None}])
    witness.hold_gil(port)
    return {"answer": "after it"}


class Sync(dspy.Module):
    """A sync module, as `dspy.Parallel` runs many on its threads."""

    def forward(self, question: str):
        tower_dspy.partial(answer=f"{question}, in parallel")
        answer = qa(question=question)
        note("sync", f"limit: {tower_dspy.remaining() is not None}")
        return answer


async def drafts_in_parallel(question: str):
    example = dspy.Example(question=question).with_inputs("question")
    parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    await asyncio.to_thread(parallel, [(Sync(), example)])
    return {"answer": "done"}


async def drafts_too_late(key: str, question: str):
    """Goes on after its end, once its caller has been told of it."""
    try:
        await qa.acall(question=question)
    except asyncio.CancelledError:
        await gate(key)
        note(key, f"kept: {tower_dspy.partial(answer='too late')}")
    return {"answer": "nevertheless"}


async def drafts_and_fails(question: str):
    answer = await qa.acall(question=question)
    tower_dspy.partial(answer=answer.answer)
    raise LookupError("nothing of use")


async def asks_four(question: str):
    """One of them on the loop, three on DSPy's threads."""
    first = await qa.acall(question=question)
    examples = [dspy.Example(question=f"{question} {n}").with_inputs("question") for n in range(3)]
    parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True)
    await asyncio.to_thread(parallel, [(qa, example) for example in examples])
    return first


def _own(model: str) -> dspy.LM:
    return dspy.LM(f"openai/{model}", api_base=witness.lm_url, api_key="own")


async def makes_its_lm(question: str, model: str):
    """Makes its LM while it runs, and asks that one and the host's."""
    with dspy.context(lm=_own(model)):
        answer = await qa.acall(question=question)
    await qa.acall(question=question)
    return answer


async def makes_its_lm_whatever_happens(question: str, model: str, times: int):
    """Asks its own LM again and again; nothing that is raised ends it."""
    with dspy.context(lm=_own(model)):
        for _ in range(times):
            try:
                await qa.acall(question=question)
            except BaseException as error:
                note(model, type(error).__name__)
    return {"answer": "done"}


async def makes_its_lm_on_a_thread(question: str, model: str):
    """The same on a thread."""

    def ask():
        with dspy.context(lm=_own(model)):
            try:
                qa(question=question)
                qa(question=question)
            except BaseException as error:
                note(model, type(error).__name__)
                raise

    await asyncio.to_thread(ask)
    return {"answer": "done"}


class Past(dspy.BaseLM):
    """Asks by a client that the host does not carry."""

    def __init__(self, model: str) -> None:
        super().__init__(model=model)

    def forward(self, prompt=None, messages=None, **_):
        body = json.dumps({"model": self.model, "messages": messages}).encode()
        request = urllib.request.Request(
            f"{witness.lm_url}/chat/completions", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return litellm_like(json.load(answer))

    async def aforward(self, prompt=None, messages=None, **_):
        return await asyncio.to_thread(self.forward, prompt, messages)


def litellm_like(answer):
    """What `dspy.BaseLM` reads: attributes, and a usage that is a dict."""
    read = json.loads(json.dumps(answer), object_hook=lambda fields: SimpleNamespace(**fields))
    read.usage = answer["usage"]
    return read


async def bypasses(question: str, model: str):
    """Asks an LM that goes past the host, and the host's."""
    with dspy.context(lm=Past(model)):
        answer = await qa.acall(question=question)
    await qa.acall(question=question)
    return answer
