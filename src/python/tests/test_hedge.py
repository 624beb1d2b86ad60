"""Hedges: nested in a fallback, under DSPy's own stream, in its modules, and with its cache."""

import asyncio
import copy
import json
import threading
from queue import SimpleQueue
from typing import Any

import dspy
import pytest
from conftest import ask, ask_sync, chat
from dspy.clients import execution
from fakes import FakeLmHost, eventually
from streamed import JSON, SSE, StreamCall, as_chat, chunk, load, pieces, predict, usage_and_end

from tower_dspy import exchange, host_lms

pytestmark = pytest.mark.asyncio

# A request that gets no answer.
HANGS: list[Any] = [("head", 200, SSE)]
WHOLE = [("full", 200, JSON, json.dumps(chat(as_chat(answer="yes"))).encode())]
BUSY = [("full", 503, JSON, b'{"error": {"message": "busy"}}')]


def member(number: int, model: str = "openai/m", **options: Any) -> dict[str, Any]:
    url = f"http://{number}/v1"
    return {"id": number, "model": model, "base_url": url, "keyed": True, "options": options}


def hedge(*members: dict[str, Any], after: float = 0.0) -> dict[str, Any]:
    return {"members": list(members), "hedge_after": after}


def streamed(text: str, end: list[tuple[Any, ...]] | None = None) -> list[Any]:
    """The events of an answer that is written in pieces, with pauses, and of its end."""
    written = [("chunk", chunk({"content": piece})) for piece in pieces(text)]
    end = end or [*(("chunk", part) for part in usage_and_end()), ("end",)]
    paused = [step for event in written for step in (0.002, event)]
    return [("head", 200, SSE), *paused, *end]


class RaceHost:
    """A host whose LMs answer by their numbers, with events, pauses in seconds (`float`), and
    waits until another LM is asked (`int`)."""

    def __init__(self, **answers: list[Any]) -> None:
        self.asked: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.stopped: list[int] = []
        self.aborted: list[int] = []
        # The seconds until a connection that is to be closed is.
        self.stop_takes = 0.0
        # That of the host's thread.
        self.loop = asyncio.get_running_loop()
        self._answers = {int(name.removeprefix("lm")): steps for name, steps in answers.items()}
        exchange.connect(self)

    def open(
        self, route: Any, _timeout: Any, _call: Any, request: Any, deliver: Any, _: Any
    ) -> Any:
        number = route[0][0]
        self.asked.append(number)
        self.bodies.append(json.loads(bytes(request.body)))
        return RaceExchange(self, number, deliver, self._answers[number])

    def await_reader(self, call: Any, deliver: Any) -> Any:
        return RaceExchange(self, 0, deliver, [("value", None)])


class RaceExchange:
    """An exchange that plays its steps, until it is stopped."""

    def __init__(self, host: RaceHost, number: int, deliver: Any, steps: list[Any]) -> None:
        self.number = number
        self._host = host
        self._deliver = deliver
        self._events: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._is_stopped = False
        self._playing = asyncio.run_coroutine_threadsafe(self._play(steps), host.loop)

    async def _play(self, steps: list[Any]) -> None:
        for step in steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, int):
                await eventually(lambda step=step: step in self._host.asked)
            elif not self._is_stopped:
                self._tell(step)

    def _tell(self, event: tuple[Any, ...]) -> None:
        if self._deliver is None:
            self._events.put(event)
        else:
            self._host.loop.call_soon_threadsafe(self._deliver, event)

    def wait(self) -> tuple[Any, ...]:
        return self._events.get(timeout=30)

    def read(self, count: int) -> None:
        """The host would read on."""

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._host.stopped.append(self.number)
            stopped = ("failed", "stopped", "another LM answered before")
            later = self._host.loop.call_later, self._host.stop_takes, self._tell, stopped
            self._host.loop.call_soon_threadsafe(*later)

    def abort(self) -> None:
        self._is_stopped = True
        self._host.aborted.append(self.number)
        self._playing.cancel()


@pytest.mark.parametrize("target", ["question -> answer", "test_streaming:SyncAsk"])
async def test_no_further_member_is_asked_once_a_hedge_within_a_fallback_has_shown_content(target):
    broken = [2, *streamed(as_chat(answer="no"), [("failed", "read", "broke off")])]
    host = RaceHost(lm1=broken, lm2=HANGS, lm3=WHOLE)
    host.stop_takes = 0.2  # it ends after the first
    lm = {"members": [hedge(member(1), member(2)), member(3)]}
    call = StreamCall()
    with pytest.raises(dspy.LMError, match="broke off"):
        await predict(load(target, lm=lm), call)
    assert sorted(host.asked) == [1, 2]
    assert call.of("text")


@pytest.mark.parametrize("target", ["question -> answer", "test_streaming:SyncAsk"])
async def test_the_second_member_is_not_asked_once_the_first_has_content(target):
    head, *begun = streamed(as_chat(answer="yes"))
    # It begins at once, and then is silent for longer than the second would wait.
    host = RaceHost(lm1=[head, *begun[1:4], 6.0, *begun[4:]], lm2=WHOLE)
    call, answer = await predict(load(target, lm=hedge(member(1), member(2), after=5.0)))
    assert answer == {"answer": "yes"} and call.text(1) == as_chat(answer="yes")
    assert host.asked == [1]


@pytest.mark.parametrize("target", ["question -> answer", "test_streaming:SyncAsk"])
async def test_a_hedge_within_a_fallback_fails_as_the_member_whose_error_it_raises(target):
    # The second is refused by the call's budget, which no other LM mends.
    refused = [("failed", "over_budget", "no tokens are left")]
    host = RaceHost(lm1=[2, 0.05, *BUSY], lm2=refused, lm3=WHOLE)
    lm = {"members": [hedge(member(1), member(2)), member(3)]}
    with pytest.raises(dspy.LMError, match="no tokens are left"):
        await predict(load(target, lm=lm))
    assert sorted(host.asked) == [1, 2]


class SyncAsk(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return self.ask(question=question)


async def dspys_stream(lm: dict[str, Any], program: dspy.Module) -> tuple[str, str]:
    """The text of DSPy's own stream of a program, and its answer."""
    listener = dspy.streaming.StreamListener("answer")
    is_async = isinstance(program, dspy.Predict)
    stream = dspy.streamify(program, stream_listeners=[listener], is_async_program=is_async)
    with dspy.context(lm=host_lms.build_lm(FakeLmHost(), lm)):
        *parts, prediction = [part async for part in stream(question="?")]
    return "".join(part.chunk for part in parts), prediction.answer


@pytest.mark.parametrize("make", [lambda: dspy.Predict("question -> answer"), SyncAsk])
async def test_dspys_own_stream_has_the_text_of_one_member(make):
    first, second = streamed(as_chat(answer="first " * 9)), streamed(as_chat(answer="second " * 9))
    host = RaceHost(lm1=[0.2, *first], lm2=second)
    text, answer = await dspys_stream(hedge(member(1), member(2)), make())
    assert text.strip() == answer == ("first " * 9).strip()
    assert host.asked == [1]


@pytest.mark.parametrize("make", [lambda: dspy.Predict("question -> answer"), SyncAsk])
async def test_in_dspys_own_stream_the_second_member_answers_where_the_first_fails(make):
    host = RaceHost(lm1=BUSY, lm2=streamed(as_chat(answer="second " * 9)))
    text, answer = await dspys_stream(hedge(member(1), member(2), after=60.0), make())
    assert text.strip() == answer == ("second " * 9).strip()
    assert host.asked == [1, 2]


async def test_dspys_own_stream_has_the_text_of_one_member_of_nested_groups():
    host = RaceHost(lm1=BUSY, lm2=HANGS, lm3=streamed(as_chat(answer="third")))
    inner = {"members": [member(1), hedge(member(3), member(2))]}
    lm = {"members": [inner, member(2)]}
    assert await dspys_stream(lm, dspy.Predict("question -> answer")) == ("third", "third")
    assert host.asked == [1, 3]


# The first fails, or is slow; and the second as a group of its own.
GROUPS = [
    ({"members": [member(1), member(2)]}, BUSY),
    (hedge(member(1), member(2)), HANGS),
    ({"members": [hedge(member(1), member(1)), hedge(member(2), member(1))]}, BUSY),
]


@pytest.mark.parametrize(("group", "first"), GROUPS)
@pytest.mark.parametrize("module", [dspy.BestOfN, dspy.Refine])
async def test_members_are_asked_with_the_temperature_of_dspys_modules(group, first, module):
    host = RaceHost(lm1=first, lm2=WHOLE)
    rewards = iter((0.0, 1.0) if module is dspy.BestOfN else (1.0,))
    asking = module(SyncAsk(), N=2, reward_fn=lambda *_: next(rewards), threshold=1.0)
    asking.set_lm(host_lms.build_lm(FakeLmHost(), group))
    answer = await asyncio.to_thread(asking, question="?")
    assert answer.answer == "yes" and 2 in host.asked
    assert {body["temperature"] for body in host.bodies} == {1.0}
    assert next(rewards, None) is None


@pytest.mark.parametrize(("group", "first"), GROUPS)
async def test_all_completions_are_of_the_member_that_answers(group, first):
    host = RaceHost(lm1=first, lm2=WHOLE)
    lm = host_lms.build_lm(FakeLmHost(), group)
    assert len(await lm.acall("?", n=3)) == 3
    assert host.asked.count(2) == 3
    assert len(await asyncio.to_thread(lm, "?", n=3)) == 3
    assert host.asked.count(2) == 6


@pytest.mark.parametrize(("group", "first"), GROUPS)
async def test_the_cache_has_the_answer_of_each_member(group, first, dspy_cache):
    host = RaceHost(lm1=first, lm2=WHOLE)
    lm = host_lms.build_lm(FakeLmHost(), group).copy(cache=True)
    assert [(await ask(lm)).answer for _ in range(3)] == ["yes"] * 3
    assert host.asked.count(2) == 1
    assert [(await asyncio.to_thread(ask_sync, lm)).answer for _ in range(3)] == ["yes"] * 3
    assert host.asked.count(2) == 2  # DSPy keeps those of async code apart


@pytest.fixture
def dspy_cache():
    """Turns DSPy's cache on."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    yield
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


@pytest.mark.parametrize(("group", "first"), GROUPS)
@pytest.mark.parametrize("copied", [copy.deepcopy, dspy.Module.deepcopy])
async def test_the_copy_of_a_program_asks_all_members(group, first, copied):
    host = RaceHost(lm1=first, lm2=WHOLE)
    program = dspy.Predict("question -> answer")
    program.lm = host_lms.build_lm(FakeLmHost(), group)
    its_copy = copied(program)
    assert (await its_copy.acall(question="?")).answer == "yes"
    assert its_copy.lm is not program.lm
    assert host.asked[0] == 1 and 2 in host.asked


async def test_an_answer_waits_for_no_thread_of_the_other_member(monkeypatch):
    # The thread renews a token, for example, before there is a request.
    renewed, ended = threading.Event(), threading.Event()
    prepare = execution._cached

    def prepare_slowly(lm: Any, *call: Any) -> Any:
        if lm.model == "openai/slow":
            renewed.wait(20)
            ended.set()
        return prepare(lm, *call)

    monkeypatch.setattr(execution, "_cached", prepare_slowly)
    host = RaceHost(lm1=WHOLE, lm2=WHOLE)
    lm = host_lms.build_lm(FakeLmHost(), hedge(member(1, "openai/slow"), member(2)))
    try:
        assert (await ask(lm.copy(cache=True))).answer == "yes"
        assert host.asked == [2] and not ended.is_set()
    finally:
        renewed.set()


async def test_a_cancel_ends_both_members():
    host = RaceHost(lm1=HANGS, lm2=HANGS)
    lm = host_lms.build_lm(FakeLmHost(), hedge(member(1), member(2)))
    asking = asyncio.create_task(ask(lm))
    await eventually(lambda: host.asked == [1, 2])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert sorted(host.aborted) == [1, 2]
    assert asyncio.all_tasks() == {asyncio.current_task()}
