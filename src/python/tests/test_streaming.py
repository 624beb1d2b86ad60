"""The text of LM calls in a call that is streamed."""

import asyncio
import contextlib

import dspy
import pytest
from conftest import HOST_LM, in_call
from fakes import FakeCall, FakeLmHost, eventually
from streamed import SSE, StreamCall, StreamHost, as_chat, chunk, load, pieces, predict, sse

import tower_dspy
from tower_dspy import host_lms
from tower_dspy.call_stream import CallStream
from tower_dspy.predictors import Predictors

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


class Twice(dspy.Module):
    """Asks one predictor twice, in the way that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")


class TwiceAtOnce(Twice):
    async def aforward(self, question: str):
        first, second = await asyncio.gather(
            self.ask.acall(question="a"), self.ask.acall(question="b")
        )
        return dspy.Prediction(answer=first.answer + second.answer)


class TwiceInThreads(Twice):
    def forward(self, question: str):
        both = [(self.ask, {"question": asked}) for asked in ("a", "b")]
        first, second = dspy.Parallel(num_threads=2)(both)
        return dspy.Prediction(answer=first.answer + second.answer)


class TwiceByAsyncify(Twice):
    async def aforward(self, question: str):
        ask = dspy.asyncify(self.ask)
        first, second = await asyncio.gather(ask(question="a"), ask(question="b"))
        return dspy.Prediction(answer=first.answer + second.answer)


class TwiceOnAnotherLoop(TwiceAtOnce):
    async def aforward(self, question: str):
        ask = super().aforward
        return await asyncio.to_thread(lambda: asyncio.run(ask(question)))


def by_question(body: dict) -> list[str]:
    asked = body["messages"][-1]["content"]
    return pieces(as_chat(answer="first-" if "\na\n" in asked else "second"))


@pytest.mark.parametrize("way", [TwiceAtOnce, TwiceInThreads, TwiceByAsyncify, TwiceOnAnotherLoop])
async def test_two_lm_calls_of_one_predictor_at_once_are_told_apart(way):
    StreamHost(by_question)
    call, answer = await predict(f"test_streaming:{way.__name__}")
    assert answer == {"answer": "first-second"}
    assert sorted(call.numbers("begin")) == [1, 2]
    assert {begin["predictor"] for begin in call.of("begin")} == {"ask"}
    assert {call.text(1), call.text(2)} == {
        as_chat(answer="first-"),
        as_chat(answer="second"),
    }
    for number in (1, 2):
        (values,) = (what for kind, its, what in call.sent if (kind, its) == ("values", number))
        assert as_chat(**values["values"]) == call.text(number)


async def test_of_several_completions_the_first_is_streamed():
    texts = iter(["one", "two"])
    host = StreamHost(lambda _: pieces(as_chat(answer=next(texts))))

    def ask():
        return dspy.Predict("question -> answer", n=2)

    loaded = load("question -> answer")
    loaded.call = ask().acall
    call, answer = await predict(loaded)
    assert answer == {"answer": "one"}
    assert host.streamed == [True, False]
    assert call.text(1) == as_chat(answer="one")
    assert call.of("values") == [{"values": {"answer": "one"}}]


async def test_the_models_reasoning_is_sent_apart():
    thinks = [{"reasoning_content": "hm"}, {"reasoning_content": "m"}]
    StreamHost([*thinks, *pieces(ANSWER)])
    call, _ = await predict("question -> answer")
    assert call.of("thinking") == ["hm", "m"]
    assert call.text(1) == ANSWER
    assert call.kinds(1) == ["begin", "thinking", "text", "values"]


async def test_an_answer_in_one_piece_is_one_text():
    StreamHost([ANSWER])
    call, answer = await predict("question -> answer")
    assert call.of("text") == [ANSWER]
    assert call.of("values") == [{"values": answer}]


LATE_ERROR = {"error": {"message": "overloaded", "type": "server_error", "code": "server_error"}}


async def failing(call: StreamCall, sync: bool) -> Exception:
    """The error of a prediction."""
    with pytest.raises(dspy.LMError) as caught:
        await predict("test_streaming:SyncAsk" if sync else "question -> answer", call)
    return caught.value


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("tail", "error"),
    [
        ([sse(LATE_ERROR)], "LMServerError"),
        ([sse({})], "LMStreamAssemblyError"),
        ([b'data: {"choices": [{\n\n'], "LMUnexpectedError"),
    ],
    ids=["an error event", "cut", "not JSON"],
)
async def test_a_failure_in_mid_stream_takes_the_text_back_and_is_the_error_of_dspys_stream(
    tail, error, sync
):
    host = StreamHost([*pieces(ANSWER)[:9], *tail])
    call = StreamCall()
    raised = await failing(call, sync)
    assert type(raised).__name__ == error
    assert call.kinds(1) == ["begin", "text", "restart"]
    assert len(host.bodies) == 1
    plain = await error_of_dspys_stream(sync=False)
    assert type(plain) is type(raised) and str(plain) == str(raised)
    if error == "LMStreamAssemblyError":
        assert raised.partial.text == plain.partial.text == "".join(pieces(ANSWER)[:9])


async def dspys_stream() -> list:
    """What DSPy's own stream of the program gives."""
    with dspy.context(lm=host_lms.build_lm(FakeLmHost(), HOST_LM)):
        stream = dspy.streamify(dspy.Predict("question -> answer"), is_async_program=True)
        return [value async for value in stream(question="?")]


async def error_of_dspys_stream(sync: bool) -> BaseException:
    with pytest.raises(BaseException) as caught:
        await dspys_stream()
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


@pytest.mark.parametrize("sync", [False, True])
async def test_an_lm_call_that_fails_before_its_first_text_leaves_no_trace(sync):
    body = b'{"error": {"message": "busy"}}'
    StreamHost([("full", 503, [("retry-after", "7")], body)])
    call = StreamCall()
    raised = await failing(call, sync)
    assert type(raised).__name__ == "LMServerError"
    assert raised.retry_after == 7.0
    assert call.sent == []


async def test_the_requests_are_those_of_dspys_own_stream():
    host = StreamHost(pieces(ANSWER))
    await predict("question -> answer")
    await predict("test_streaming:SyncAsk")
    await dspys_stream()
    ours, sync, theirs = host.requests
    assert host.bodies[0]["stream_options"] == {"include_usage": True}
    assert host.bodies[0] == host.bodies[1] == host.bodies[2]
    for name in ("method", "url", "headers"):
        assert getattr(ours, name) == getattr(sync, name) == getattr(theirs, name)


async def test_a_call_that_nobody_reads_is_not_streamed():
    host = StreamHost(pieces(ANSWER))
    call = FakeCall()
    with in_call(call) as state:
        await load("question -> answer")({"question": "?"})
        await asyncio.to_thread(load("test_streaming:SyncAsk").run, {"question": "?"})
    assert state.stream is None
    assert host.streamed == [False, False]


class AsksItself(dspy.Module):
    """Asks an LM without an adapter, before and after a predictor."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        await dspy.settings.lm.acall("before")
        with contextlib.suppress(dspy.LMError):
            await self.ask.acall(question="fails")
        await dspy.settings.lm.acall("after")
        return await self.ask.acall(question=question)


async def test_an_lm_call_without_an_adapter_is_not_streamed():
    busy = [("full", 503, [], b"{}")]
    host = StreamHost(lambda body: busy if "fails" in str(body) else pieces(ANSWER))
    call, _ = await predict("test_streaming:AsksItself")
    assert host.streamed == [False, True, False, True]
    assert call.numbers("begin") == [1]


async def test_a_cancel_in_mid_stream_ends_the_call_and_its_connection(harness):
    host = StreamHost(lambda _: [("head", 200, SSE), ("chunk", chunk({"content": "so f"}))])
    for target in ("question -> answer", "test_streaming:SyncAsk"):
        call, aborted = StreamCall(), host.aborted
        its_target = harness.program(target, lm=HOST_LM)
        harness.start(its_target, call=call, question="?")
        await eventually(lambda call=call: call.of("text"))
        call.cancelled_by_host = True
        host.exchanges[-1].cancel()
        harness.cancel_last()
        await call.ended()
        assert call.outcome["kind"] == "cancelled"
        await eventually(lambda aborted=aborted: host.aborted > aborted)
        assert call.kinds(1) == ["begin", "text"]


async def test_lone_surrogates_arrive_as_replacement_characters():
    call = StreamCall()
    stream = CallStream(call, call.stream(), Predictors(None), None)
    stream.text(1, "a\ud83d")
    stream.values(1, {"answer": "a\ud83d\ude00\ud83d"})
    stream.status("\ud83d")
    assert call.text(1) == "a\ufffd"
    assert call.of("values") == [{"values": {"answer": "a\U0001f600\ufffd"}}]
    assert call.of("status") == [{"message": "\ufffd"}]


async def test_a_program_may_be_cancelled_by_itself_in_mid_stream():
    host = StreamHost(lambda _: [("head", 200, SSE), ("chunk", chunk({"content": "so f"}))])
    call = StreamCall()

    async def gives_up(question: str) -> dspy.Prediction:
        asking = asyncio.create_task(dspy.Predict("question -> answer").acall(question="?"))
        await eventually(lambda: call.of("text"))
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        tower_dspy.status("gave up")
        return dspy.Prediction(answer="none")

    loaded = load("question -> answer")
    loaded.call = gives_up
    _, answer = await predict(loaded, call)
    assert answer == {"answer": "none"}
    assert call.kinds(1) == ["begin", "text", "restart"]
    assert call.sent[-1] == ("status", None, {"message": "gave up"})
    assert host.aborted == 1
