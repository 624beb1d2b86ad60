"""LM calls as steps of a program: refused once its call is over, and counted."""

import asyncio
from types import SimpleNamespace

import dspy
import httpx
import litellm
import pytest
from conftest import HOST_LM, ask, ask_sync, chat
from dspy.clients import embedding as embedding_module
from dspy.utils import DummyLM
from fakes import FakeCall, FakeExchangeHost, FakeLmHost, turns

from tower_dspy import host_lms
from tower_dspy.call_state import CURRENT_CALL, Cancelled
from tower_dspy.patches import lm_hooks

pytestmark = pytest.mark.asyncio


def own() -> dspy.LM:
    return dspy.LM("openai/own", api_key="own-key", api_base="http://own/v1", cache=True)


async def test_outside_a_call_nothing_is_reported(http: FakeExchangeHost):
    assert (await ask(own())).answer == "yes"
    assert ask_sync(own()).answer == "yes"
    assert len(http.sent) == 2


async def test_an_answer_is_reported_with_the_tokens_that_dspy_read(
    http: FakeExchangeHost, call: FakeCall
):
    for its_lm in (host_lms.build_lm(FakeLmHost(), HOST_LM), own()):
        await ask(its_lm)
        ask_sync(its_lm)
    counts = (3, 5, 8)
    assert call.events == [("stepped", (exchange, counts)) for exchange in (1, 2, 3, 4)]


async def test_a_request_has_its_lm_and_its_model(http: FakeExchangeHost, call: FakeCall):
    await ask(host_lms.build_lm(FakeLmHost(), HOST_LM))
    ask_sync(own())
    routes = [route for route, _, _ in http.sent]
    assert routes == [([7], "openai/host", None, False), ([], "openai/own", None, False)]


async def test_an_lm_that_bypasses_the_host_is_reported(http: FakeExchangeHost, call: FakeCall):
    await ask(DummyLM([{"answer": "yes"}]))
    ask_sync(DummyLM([{"answer": "yes"}]))
    assert call.named("bypassed") == ["DummyLM(dummy)"] * 2
    assert len(call.named("stepped")) == 2


class Passes(dspy.BaseLM):
    """An LM that asks another one, as a router does."""

    def __init__(self, other: dspy.LM) -> None:
        super().__init__(model="passes")
        self._other = other

    def forward(self, prompt=None, messages=None, **_):
        (text,) = self._other(messages=messages)
        return litellm.ModelResponse(**chat(text))

    async def aforward(self, prompt=None, messages=None, **_):
        (text,) = await self._other.acall(messages=messages)
        return litellm.ModelResponse(**chat(text))


async def test_an_lm_that_calls_another_one_does_not_bypass_the_host(
    http: FakeExchangeHost, call: FakeCall
):
    await ask(Passes(host_lms.build_lm(FakeLmHost(), HOST_LM)))
    ask_sync(Passes(host_lms.build_lm(FakeLmHost(), HOST_LM)))
    assert call.named("bypassed") == []
    assert len(http.sent) == 2


async def test_an_answer_of_dspys_cache_does_not_bypass_the_host(
    http: FakeExchangeHost, call: FakeCall, monkeypatch
):
    monkeypatch.setattr(dspy, "cache", dspy.cache)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    for _ in range(2):
        await ask(own())
        ask_sync(own())
    assert len(http.sent) < 4
    assert call.named("bypassed") == []
    assert len(call.named("stepped")) == 4
    assert call.named("stepped")[-1] == (None, None)


@pytest.fixture
def embeds(monkeypatch) -> list[list[str]]:
    """The texts of each request for embeddings to litellm, which does not ask the host for them."""
    asked: list[list[str]] = []

    def embedding(*, input, **_):
        asked.append(input)
        return SimpleNamespace(data=[{"embedding": [1.0]} for _ in input], usage=None)

    async def aembedding(**kwargs):
        return embedding(**kwargs)

    litellm = SimpleNamespace(cache=None, embedding=embedding, aembedding=aembedding)
    get_litellm = lm_hooks._with_usage_of_embeddings(lambda: litellm)
    monkeypatch.setattr(embedding_module, "_get_litellm", get_litellm)
    numbers = SimpleNamespace(array=lambda values, **_: values, float32=float)
    monkeypatch.setattr(embedding_module, "np", numbers)
    return asked


async def test_embeddings_are_kept_where_a_program_turned_the_cache_on(
    call: FakeCall, embeds: list[list[str]], monkeypatch
):
    embedder = dspy.Embedder("mistral/embed", batch_size=1)
    for _ in range(2):
        assert embedder(["a", "b"]) == await embedder.acall(["a", "b"]) == [[1.0], [1.0]]
    assert len(embeds) == 8
    monkeypatch.setattr(dspy, "cache", dspy.cache)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    embeds.clear()
    call.events.clear()
    for _ in range(2):
        assert embedder(["a", "b"]) == await embedder.acall(["a", "b"]) == [[1.0], [1.0]]
    embedder(["c", "a"])
    assert embeds == [["a"], ["b"], ["a"], ["b"], ["c"]]
    # One for each call that asked, also where its last batch was kept.
    assert call.named("bypassed") == ["Embedder(mistral/embed)"] * 3
    assert len(call.named("stepped")) == 5


async def test_dspy_retries_nothing(http: FakeExchangeHost, call: FakeCall):
    http.answer({"error": {"message": "busy"}}, status=503)
    assert own().num_retries == 3
    with pytest.raises(dspy.utils.exceptions.LMError):
        await ask(own())
    with pytest.raises(dspy.utils.exceptions.LMError):
        ask_sync(own())
    assert len(http.sent) == 2 and call.events == []


@pytest.mark.parametrize("known_to_rust_alone", [True, False])
async def test_a_call_that_is_over_makes_no_lm_call(
    http: FakeExchangeHost, call: FakeCall, known_to_rust_alone: bool
):
    http.closed = known_to_rust_alone
    call.cancelled_by_host = not known_to_rust_alone
    with pytest.raises(Cancelled):
        ask_sync(own())
    with pytest.raises(asyncio.CancelledError):
        await ask(own())
    # A program that asks again has to wait, see test_checkpoint.py.
    again = asyncio.create_task(ask(own()))
    await turns(3)
    assert not again.done()
    with pytest.raises(asyncio.CancelledError):
        await again
    assert http.sent == [] and call.events == []


async def test_the_timeout_of_an_lm_goes_with_its_requests(http: FakeExchangeHost, call: FakeCall):
    await ask(dspy.LM("openai/own", api_key="k", api_base="http://own/v1", timeout=30))
    await ask(own())
    assert [timeout for _, timeout, _ in http.sent] == [30.0, None]


async def test_a_forward_that_a_program_calls_itself_is_an_lm_call_too(
    http: FakeExchangeHost, call: FakeCall
):
    CURRENT_CALL.get().lms = (7,)
    its_lm = host_lms.build_lm(FakeLmHost(), HOST_LM)
    await its_lm.aforward("?")
    its_lm.forward("?")
    assert [route for route, _, _ in http.sent] == [([7], "host", None, False)] * 2


async def test_the_requests_of_an_embedder_are_told_from_lm_calls(
    http: FakeExchangeHost, call: FakeCall, embeds: list[list[str]]
):
    def embed(texts: list[str]) -> list[list[float]]:
        httpx.post("http://host/vectors", json={"texts": texts})
        return [[1.0] for _ in texts]

    http.answer({})
    dspy.Embedder(embed)(["a"])
    assert [route for route, _, _ in http.sent] == [([], "", None, True)]
