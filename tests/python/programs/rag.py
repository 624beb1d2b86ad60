"""Retrieval-augmented generation: an LM call, an embedding, a search, and two LM calls."""

from __future__ import annotations

import sys
import threading
from typing import Any

import dspy

import tower_dspy
import witness

PASSAGES = ["Rome is in Italy.", "Bern is in Switzerland."]
# What programs hold, so that litellm is imported when they are loaded.
embedder = dspy.Embedder("openai/rag-embed", caching=False)


def embedder_of(key: str) -> dspy.Embedder:
    """An embedder with a model of the test's own, and the key of the host's LM."""
    address = {"api_base": witness.lm_url, "api_key": "TOWER-DSPY-KEY"}
    return dspy.Embedder(f"openai/{key}-embed", caching=False, **address)


def nearest(vectors, vector) -> str:
    return PASSAGES[int((vectors @ vector).argmax())]


class Rag(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedder = embedder
        self.rewrite = dspy.Predict("question -> query")
        self.respond = dspy.Predict("passage, question -> answer")
        self.check = dspy.Predict("passage, answer -> verdict")

    async def aforward(self, key: str, question: str):
        query = (await self.rewrite.acall(question=question)).query
        *vectors, vector = await embedder_of(key).acall([*PASSAGES, query])
        witness.note(key, "searching")
        await witness.gate(key)
        passage = nearest(stacked(vectors), vector)
        answer = (await self.respond.acall(passage=passage, question=question)).answer
        await self.check.acall(passage=passage, answer=answer)
        return {"answer": answer, "passage": passage}


class RagOnThread(Rag):
    """The same as a sync program."""

    def forward(self, key: str, question: str):
        query = self.rewrite(question=question).query
        *vectors, vector = embedder_of(key)([*PASSAGES, query])
        witness.note(key, "searching")
        # An interrupt reaches a thread between two waits.
        while not witness.thread_gate(key).wait(0.01):
            pass
        passage = nearest(stacked(vectors), vector)
        answer = self.respond(passage=passage, question=question).answer
        self.check(passage=passage, answer=answer)
        return {"answer": answer, "passage": passage}


class RagByTool(dspy.Module):
    """With a tool of Rust's in the place of the embedder and the index."""

    def __init__(self) -> None:
        super().__init__()
        (self.search,) = tower_dspy.tools("search")
        self.respond = dspy.Predict("passage, question -> answer")

    async def aforward(self, key: str, question: str):
        passage = await self.search.acall(query=question)
        answer = (await self.respond.acall(passage=passage, question=question)).answer
        return {"answer": answer, "passage": passage}


def stacked(vectors):
    import numpy

    return numpy.array(vectors)


async def let_search(key: str):
    """For the tests: lets both search."""
    witness.open_thread_gate(key)
    await witness.open_gate(key)


async def hold_import(key: str) -> None:
    """For the tests: has the next load that imports litellm wait in the middle of it."""
    held = False

    def hold(event: str, args: tuple[Any, ...]) -> None:
        nonlocal held
        if held or event != "import" or not args[0].startswith("litellm."):
            return
        if threading.current_thread().name.startswith("load of "):
            held = True
            witness.note(key, "importing")
            # Longer than the test waits for its calls.
            witness.thread_gate(key).wait(60)

    # Not by a finder: that is called under a lock which other imports need as well.
    sys.addaudithook(hold)


async def imported() -> dict[str, bool]:
    """For the tests: which packages are imported."""
    return {name: name in sys.modules for name in ("litellm", "numpy")}
