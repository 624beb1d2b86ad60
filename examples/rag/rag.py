"""Answers from passages: three LM calls, and an embedder with an index or a tool of the caller."""

import asyncio

import dspy
import numpy as np

import tower_dspy

# The passages that a search returns.
NEAREST = 2
# The passages that are compared in one turn of the loop, so that other calls go on.
BLOCK = 10_000

# At the provider's address and with the key of the environment, unless `ingest` says otherwise.
embedder = dspy.Embedder("openai/text-embedding-3-small", caching=False)


class Index:
    """Passages, found by their vectors."""

    def __init__(self) -> None:
        self.passages: list[str] = []
        self.vectors = np.zeros((0, 0), dtype=np.float32)

    async def search(self, vector: np.ndarray) -> list[str]:
        """The nearest passages: their vectors have length 1, so the product is the cosine."""
        scores = []
        for start in range(0, len(self.passages), BLOCK):
            scores.append(self.vectors[start : start + BLOCK] @ vector)
            await asyncio.sleep(0)
        nearest = np.argsort(-np.concatenate(scores))[:NEAREST]
        return [self.passages[number] for number in nearest]


index = Index()


async def ingest(passages: list[str], connection: dict[str, str]) -> int:
    """Embeds passages and keeps them for searches; returns the dimensions of their vectors.

    `connection` is that of the embedder from now on: `api_base` and `api_key`.
    """
    embedder.default_kwargs.update(connection)
    index.vectors = await embedder.acall(passages)
    index.passages = passages
    return index.vectors.shape[1]


class Rag(dspy.Module):
    """Rewrites the question, retrieves passages, answers from them, and checks the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.rewrite = dspy.Predict("question -> query")
        self.respond = dspy.Predict("passages: list[str], question -> answer")
        self.check = dspy.Predict("passages: list[str], answer -> grounded")

    async def retrieve(self, query: str) -> list[str]:
        raise NotImplementedError

    async def aforward(self, question: str) -> dspy.Prediction:
        query = (await self.rewrite.acall(question=question)).query
        passages = await self.retrieve(query)
        answer = (await self.respond.acall(passages=passages, question=question)).answer
        # What the caller has if time ends here.
        tower_dspy.partial(answer=answer)
        checked = await self.check.acall(passages=passages, answer=answer)
        return dspy.Prediction(answer=answer, grounded=checked.grounded, passages=passages)


class RagByIndex(Rag):
    """Retrieves by the embedder and the index."""

    async def retrieve(self, query: str) -> list[str]:
        return await index.search(await embedder.acall(query))


class RagByTool(Rag):
    """Retrieves by the tool `search` of the caller."""

    def __init__(self) -> None:
        super().__init__()
        (self.search,) = tower_dspy.tools("search")

    async def retrieve(self, query: str) -> list[str]:
        return await self.search.acall(query=query)
