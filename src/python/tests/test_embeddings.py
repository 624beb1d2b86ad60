"""Embeddings by litellm: what an embedder reads is the same, and the rest is not computed."""

import litellm
import pytest
from fakes import FakeExchangeHost
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils import litellm_logging
from openai import _models
from openai.types import CreateEmbeddingResponse

from tower_dspy.patches import lm_hooks

pytestmark = pytest.mark.asyncio

VECTOR = [0.25, -0.5, 1.0]
ASKS = {
    "model": "openai/text-embedding",
    "input": ["x"],
    "api_key": "unused",
    "api_base": "http://e/v1",
}


def answer(vector: list) -> dict:
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": "e",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that litellm computes a price for."""
    models: list[str] = []
    compute = litellm_logging.Logging.response_cost_calculator

    def noted(self, *args, **kwargs):
        models.append(self.model)
        return compute(self, *args, **kwargs)

    monkeypatch.setattr(litellm_logging.Logging, "response_cost_calculator", noted)
    return models


async def embed(http: FakeExchangeHost) -> tuple[list, list]:
    """Asks for a vector by an async and a sync call, as an embedder does."""
    http.answer(answer(VECTOR))
    client = lm_hooks._EmbeddingUsage(litellm)
    later = await client.aembedding(**ASKS)
    return later.data[0]["embedding"], client.embedding(**ASKS).data[0]["embedding"]


async def test_an_embedder_reads_the_vectors_and_the_tokens(http, call, prices):
    assert await embed(http) == (VECTOR, VECTOR)
    assert prices == []
    assert len(http.sent) == 2


class Reads(CustomLogger):
    def __init__(self) -> None:
        self.bodies: list[str] = []

    def log_post_api_call(self, kwargs, response_obj, start_time, end_time):
        self.bodies.append(kwargs["original_response"])


async def test_a_callback_of_litellm_gets_the_price_and_the_record(http, call, prices, monkeypatch):
    reads = Reads()
    monkeypatch.setattr(litellm, "callbacks", [reads])
    monkeypatch.setattr(litellm, "input_callback", [reads])
    assert await embed(http) == (VECTOR, VECTOR)
    assert "text-embedding" in prices
    assert len(reads.bodies) == 2


async def test_an_embedding_of_the_programs_own_has_its_price(http, call, prices):
    http.answer(answer(VECTOR))
    assert litellm.embedding(**ASKS).data[0]["embedding"] == VECTOR
    assert "text-embedding" in prices


@pytest.mark.parametrize("vector", [VECTOR, [], [1, 0.5], [2**60 + 1, True, "x", None]])
async def test_openais_client_makes_the_same_of_each_list(vector):
    body = answer(vector)
    original = _models.construct_type.__wrapped__
    made = _models.construct_type(value=body, type_=CreateEmbeddingResponse).data[0].embedding
    assert made is not vector
    expected = original(value=vector, type_=list[float])
    assert [(type(one), one) for one in made] == [(type(one), one) for one in expected]


async def test_openais_client_looks_at_a_vector_once(monkeypatch):
    looks: list[int] = []
    is_alias = _models.is_type_alias_type
    monkeypatch.setattr(
        _models, "is_type_alias_type", lambda type_: looks.append(1) or is_alias(type_)
    )
    _models.construct_type(value=answer([0.5] * 1000), type_=CreateEmbeddingResponse)
    assert 0 < len(looks) < 50
