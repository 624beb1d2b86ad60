"""The text of LM calls in a call that is streamed."""

import dspy
import pytest
from streamed import StreamHost, as_chat, pieces, predict

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]

ANSWER = as_chat(answer="four [[it]] is")
BEGIN = {"predictor": "self", "format": "chat", "fields": [["answer", True, True]]}


class SyncAsk(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return self.ask(question=question)


async def test_an_async_program_is_streamed_as_its_lm_writes():
    host = StreamHost(pieces(ANSWER))
    call, answer = await predict("question -> answer")
    assert answer == {"answer": "four [[it]] is"}
    assert call.sent[0] == ("begin", 1, BEGIN)
    assert call.of("text") == pieces(ANSWER)
    assert call.sent[-1] == ("values", 1, {"values": answer})
    assert call.kinds(1) == ["begin", "text", "values"]
    assert host.streamed == [True]
    assert call.named("stepped") == [(1, (3, 5, 8))]


async def test_a_sync_program_is_streamed_from_its_thread():
    host = StreamHost(pieces(ANSWER))
    call, answer = await predict("test_streaming:SyncAsk")
    assert answer == {"answer": "four [[it]] is"}
    assert call.of("begin") == [{**BEGIN, "predictor": "ask"}]
    assert call.text(1) == ANSWER
    assert call.kinds(1) == ["begin", "text", "values"]
    assert host.streamed == [True]
    assert call.named("stepped") == [(1, (3, 5, 8))]
