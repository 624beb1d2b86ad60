"""The waits of a call that is streamed for its reader."""

import asyncio
import json

import dspy
import pytest
from conftest import HOST_LM, chat, in_call
from fakes import eventually, turns
from streamed import JSON, StreamCall, StreamHost, as_chat, pieces, predict

import tower_dspy
from tower_dspy.call_stream import WINDOW, CallStream
from tower_dspy.predictors import Predictors

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]

ANSWER = as_chat(answer="four")


class Twice(dspy.Module):
    """Asks one predictor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")


@pytest.mark.parametrize("sync", [False, True])
async def test_a_slow_reader_stops_the_reading_of_the_lm(sync):
    host = StreamHost(pieces(as_chat(answer="x" * 200_000), 1000))
    host.is_slow = True
    call = StreamCall()
    target = "test_streaming:SyncAsk" if sync else "question -> answer"
    running = asyncio.create_task(predict(target, call))
    for waits in range(1, 7):
        await eventually(lambda waits=waits: len(host.waiting) == waits)
        await turns(10)
        sent = sum(map(len, call.of("text")))
        assert waits * WINDOW <= sent < waits * (WINDOW + 1000)
        host.waiting[-1].tell(("value", None))
    _, answer = await running
    assert answer == {"answer": "x" * 200_000}


class SyncOnTheLoop(Twice):
    """Asks in sync code on the loop, then in its task."""

    async def aforward(self, question: str):
        first = self.ask(question="a")
        second = await self.ask.acall(question="b")
        return dspy.Prediction(answer=first.answer + second.answer)


async def test_sync_code_on_the_loop_does_not_wait_for_the_reader():
    text = "x" * 100_000
    host = StreamHost(pieces(as_chat(answer=text), 1000))
    host.is_slow = True
    call = StreamCall()
    running = asyncio.create_task(predict("test_stream_reader:SyncOnTheLoop", call))
    await eventually(lambda: host.waiting)
    assert call.text(1) == as_chat(answer=text)
    # Its bytes count for the task's next wait.
    await turns(10)
    assert (len(host.bodies), len(host.waiting)) == (1, 1)
    host.is_slow = False
    host.waiting[-1].tell(("value", None))
    _, answer = await running
    assert answer == {"answer": 2 * text}


class TwiceInTurn(Twice):
    async def aforward(self, question: str):
        first = await self.ask.acall(question="a")
        second = await self.ask.acall(question="b")
        return dspy.Prediction(answer=first.answer + second.answer)


class TwiceInTurnInSync(Twice):
    def forward(self, question: str):
        first, second = self.ask(question="a"), self.ask(question="b")
        return dspy.Prediction(answer=first.answer + second.answer)


@pytest.mark.parametrize("way", [TwiceInTurn, TwiceInTurnInSync])
async def test_a_slow_reader_holds_up_a_program_whose_lm_does_not_stream(way):
    text = "x" * WINDOW
    whole = json.dumps(chat(as_chat(answer=text))).encode()
    host = StreamHost(lambda _: [("full", 200, JSON, whole)])
    host.is_slow = True
    running = asyncio.create_task(predict(f"test_stream_reader:{way.__name__}"))
    for lm_calls in (1, 2):
        await eventually(lambda lm_calls=lm_calls: len(host.waiting) == lm_calls)
        await turns(10)
        assert (len(host.bodies), running.done()) == (lm_calls, False)
        host.waiting[-1].tell(("value", None))
    _, answer = await running
    assert answer == {"answer": 2 * text}


class Reports(Twice):
    async def aforward(self, question: str):
        tower_dspy.status("x" * WINDOW)
        return await self.ask.acall(question=question)


class ReportsInSync(Twice):
    def forward(self, question: str):
        tower_dspy.status("x" * WINDOW)
        return self.ask(question=question)


@pytest.mark.parametrize("way", [Reports, ReportsInSync])
@pytest.mark.parametrize("chosen", [[], [("other", "field")]])
async def test_an_lm_call_begins_once_the_reader_has_read_what_was_sent_before(way, chosen):
    host = StreamHost(pieces(ANSWER))
    host.is_slow = True
    call = StreamCall(*chosen)
    running = asyncio.create_task(predict(f"test_stream_reader:{way.__name__}", call))
    await eventually(lambda: host.waiting)
    await turns(10)
    assert host.bodies == []
    host.waiting[-1].tell(("value", None))
    _, answer = await running
    assert answer == {"answer": "four"}
    assert len(host.waiting) == 1


async def test_a_delta_after_one_of_another_lm_call_counts_as_an_event():
    call = StreamCall()
    stream = CallStream(call, call.stream(), Predictors(None), None)
    for _ in range(1000):
        assert not stream.text(1, "x")
    for send, lm_call in [(stream.text, 2), (stream.thinking, 1)]:
        with in_call(call):
            StreamHost("")
            await stream.wait()
        deltas = 0
        while not (send(lm_call, "x") or stream.text(1, "x")):
            deltas += 2
        assert deltas * 64 < WINDOW


async def test_the_reader_is_waited_for_by_bytes_of_all_lm_calls():
    StreamHost("")
    call = StreamCall()
    stream = CallStream(call, call.stream(), Predictors(None), None)
    one = stream.begin("ask", "chat", [])
    assert not stream.text(one, "\N{SNOWMAN}" * (WINDOW // 6))
    assert stream.text(one + 1, "\N{SNOWMAN}" * (WINDOW // 6))
    with in_call(call):
        await stream.wait()
    assert not stream.text(one, "\N{SNOWMAN}")
    assert stream.text(one, "x" * WINDOW)


@pytest.mark.parametrize("target", ["question -> answer", "test_streaming:SyncAsk"])
async def test_a_call_that_waits_for_its_reader_can_be_cancelled(harness, target):
    host = StreamHost(pieces(as_chat(answer="x" * 100_000), 1000))
    host.is_slow = True
    call = StreamCall()
    harness.start(harness.program(target, lm=HOST_LM), call=call, question="?")
    await eventually(lambda: host.waiting)
    call.cancelled_by_host = True
    host.waiting[-1].cancel()
    harness.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert len(host.waiting) == 1
    assert host.aborted >= 1
