"""Streamed LM calls that DSPy makes by litellm, and those of engines that cannot stream."""

import json

import dspy
import pytest
from conftest import HOST_LM, chat
from dspy.utils import DummyLM
from fakes import FakeLmHost
from streamed import JSON, StreamCall, StreamHost, as_chat, load, pieces, predict

from tower_dspy import host_lms

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]

ANSWER = as_chat(answer="four")
# litellm has no model of this name, and takes it by its custom provider.
LITELLM = {**HOST_LM, "options": {"custom_llm_provider": "openai"}}


class SyncAsk(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return self.ask(question=question)


TARGETS = ["question -> answer", "test_streaming_engines:SyncAsk"]


@pytest.mark.parametrize("target", TARGETS)
async def test_the_chunks_of_litellm_are_streamed(target):
    host = StreamHost([{"reasoning_content": "hm"}, *pieces(ANSWER)])
    call, answer = await predict(load(target, lm=LITELLM))
    assert answer == {"answer": "four"}
    assert host.streamed == [True]
    assert host.bodies[0]["stream_options"] == {"include_usage": True}
    assert call.kinds(1) == ["begin", "thinking", "text", "values"]
    assert call.of("thinking") == ["hm"]
    assert call.of("text") == pieces(ANSWER)
    assert call.named("stepped") == [(1, (3, 5, 8))]


@pytest.mark.parametrize("target", TARGETS)
async def test_litellm_returns_the_same_with_a_stream_as_without(target):
    StreamHost(pieces(ANSWER))
    loaded = load(target, lm=LITELLM)
    lm = loaded.settings["lm"]
    with dspy.context(lm=lm):
        whole = lm(messages=[{"role": "user", "content": "?"}])
    seen = []
    lm.update_history = seen.append
    await predict(loaded)
    (entry,) = seen
    assert entry["outputs"] == whole
    assert entry["usage"]["total_tokens"] == 8
    assert entry["response"].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("target", TARGETS)
async def test_a_failure_of_litellm_in_mid_stream_takes_the_text_back(target):
    late = b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'
    host = StreamHost([*pieces(ANSWER)[:5], late])
    call = StreamCall()
    with pytest.raises(dspy.LMError):
        await predict(load(target, lm=LITELLM), call)
    assert call.kinds(1) == ["begin", "text", "restart"]
    assert len(host.bodies) == 1


@pytest.mark.parametrize("target", TARGETS)
async def test_several_completions_of_litellm_are_one_piece(target):
    body = chat(ANSWER)
    body["choices"].append({**body["choices"][0], "index": 1})
    host = StreamHost([("full", 200, JSON, json.dumps(body).encode())])
    loaded = load(target, lm={**LITELLM, "options": {**LITELLM["options"], "n": 2}})
    call, answer = await predict(loaded)
    assert answer == {"answer": "four"}
    assert host.streamed == [False]
    assert call.of("text") == [ANSWER]
    assert call.kinds(1) == ["begin", "text", "values"]


@pytest.mark.parametrize("target", TARGETS)
async def test_the_answer_of_an_lm_of_another_kind_is_one_piece(target):
    loaded = load(target)
    loaded.settings["lm"] = DummyLM([{"answer": "four"}])
    call, answer = await predict(loaded)
    assert answer == {"answer": "four"}
    assert call.kinds(1) == ["begin", "text", "values"]
    (text,) = call.of("text")
    assert "four" in text


@pytest.mark.parametrize("target", TARGETS)
async def test_the_answer_of_an_engine_that_cannot_stream_is_one_piece(target, monkeypatch):
    from dspy._vendor.lm15.access import EndpointSupport

    monkeypatch.setattr(EndpointSupport, "stream", False)
    host = StreamHost(pieces(ANSWER))
    call, answer = await predict(target)
    assert answer == {"answer": "four"}
    assert host.streamed == [False]
    assert call.of("text") == [ANSWER]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("full", [True, False])
async def test_the_answer_of_a_server_that_does_not_stream_is_one_piece(target, full):
    body = json.dumps(chat(ANSWER)).encode()
    parts = [("head", 200, JSON), ("chunk", body[:9]), ("chunk", body[9:]), ("end",)]
    host = StreamHost([("full", 200, JSON, body)] if full else parts)
    call, answer = await predict(target)
    assert answer == {"answer": "four"}
    assert host.streamed == [True]
    assert call.of("text") == [ANSWER]
    assert call.kinds(1) == ["begin", "text", "values"]
    assert call.named("stepped") == [(1, (3, 5, 8))]


@pytest.mark.parametrize("target", TARGETS)
async def test_responses_of_openai_are_streamed_as_well(target):
    lm = host_lms.build_lm(FakeLmHost(), {**HOST_LM, "options": {"model_type": "responses"}})
    loaded = load(target)
    loaded.settings["lm"] = lm
    parts = [
        {"type": "response.created", "response": {"id": "1", "model": "m"}},
        *({"type": "response.output_text.delta", "delta": piece} for piece in pieces(ANSWER)),
        {
            "type": "response.completed",
            "response": {"id": "1", "model": "m", "status": "completed"},
        },
    ]
    host = StreamHost([b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts])
    call, answer = await predict(loaded)
    assert answer == {"answer": "four"}
    assert host.streamed == [True]
    assert call.text(1) == ANSWER
