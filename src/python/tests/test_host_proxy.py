"""A worker's side of its socket while the threads that use it are interrupted."""

import asyncio
import contextvars
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import execute_interrupted, own_messages

from tower_dspy import proxies
from tower_dspy.call_state import Cancelled
from tower_dspy.frames import Frames, Log
from tower_dspy.host_proxy import HostProxy
from tower_dspy.interrupt import InterruptibleRun
from tower_dspy.lm_call import PLACEHOLDER
from tower_dspy.proxies import CallProxy


class InterruptedSocket:
    """A socket in whose methods a thread is interrupted."""

    def __init__(self, taken: socket.socket) -> None:
        self._socket = taken
        self.interrupt: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, *args: Any) -> bytes:
        data = self._socket.recv(*args)
        self._interrupt()
        return data

    def sendall(self, data: bytes) -> None:
        self._interrupt()
        self._socket.sendall(data)

    def _interrupt(self) -> None:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()


class Ends:
    """Both ends of a worker's socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.socket = InterruptedSocket(ours)
        self.frames = Frames(self.socket)
        self.proxy = HostProxy(self.frames)
        self.host = Frames(theirs)

    def interrupted(self, function: Callable[[], object]) -> InterruptibleRun:
        """Executes a function on a thread that is interrupted while it uses the socket."""

        def run(interrupt: Callable[[], None]) -> None:
            self.socket.interrupt = interrupt
            function()

        return execute_interrupted(run)

    def sent(self) -> list[str]:
        return [name for name, _, _ in self.host.receive()]


SETTING = contextvars.ContextVar("setting", default="none")


class FakeRunner:
    def __init__(self) -> None:
        self.cancelled: list[int] = []
        # The setting in which each call was started.
        self.started: list[str] = []

    def start(self, *_: Any) -> None:
        self.started.append(SETTING.get())

    def cancel(self, sequence: int) -> None:
        self.cancelled.append(sequence)


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.frames.close()
    ends.host.close()


def test_an_interrupted_thread_loses_no_frame_that_it_reads(ends: Ends) -> None:
    loop, runner = asyncio.new_event_loop(), FakeRunner()
    ends.proxy.serve(runner, loop)
    for call in (1, 2):
        ends.host.send("cancel", {"call": call, "timed_out": False})
    ends.proxy._last_poll = 0.0
    run = ends.interrupted(ends.proxy.poll)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert isinstance(run.error, Cancelled)
    assert runner.cancelled == [1, 2]


def test_a_call_that_a_limit_of_time_ended_has_timed_out(ends: Ends) -> None:
    loop, runner = asyncio.new_event_loop(), FakeRunner()
    ends.proxy.serve(runner, loop)
    calls = [CallProxy(ends.proxy, number, None) for number in (1, 2)]
    ends.proxy.calls.update({call.sequence: call for call in calls})
    for call, timed_out in ((1, False), (2, True)):
        ends.host.send("cancel", {"call": call, "timed_out": timed_out})
    ends.proxy._last_poll = 0.0
    ends.proxy.poll()
    loop.close()
    assert [(call.is_over(), call.timed_out()) for call in calls] == [(True, False), (True, True)]


def test_a_call_that_a_program_reads_does_not_start_with_the_settings_of_that(ends: Ends) -> None:
    loop, runner = asyncio.new_event_loop(), FakeRunner()
    ends.proxy.serve(runner, loop)

    async def program() -> None:
        SETTING.set("of a program")
        # The loop starts a few of them in a turn.
        for call in range(50):
            body = {
                "call": call,
                "lm": None,
                "target": 1,
                "remaining": None,
                "stream": None,
                "trace": None,
            }
            ends.host.send("start", body, b"{}")
        ends.proxy._last_poll = 0.0
        ends.proxy.poll()
        while len(runner.started) < 50:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(program(), 30))
    loop.close()
    assert runner.started == ["none"] * 50


def test_a_report_goes_in_its_turn_of_the_loop_though_a_log_record_waits(ends: Ends) -> None:
    loop = asyncio.new_event_loop()
    ends.proxy.serve(FakeRunner(), loop)

    async def report() -> None:
        for call in (1, 2):
            Log(ends.frames)(logging.INFO, "app", "?", None)
            ends.proxy.send_soon("settled", {"call": call, "strays": None})
            assert ends.sent() == []
            await asyncio.sleep(0)
            assert ends.sent() == ["log", "settled"]

    loop.run_until_complete(report())
    loop.close()


def test_a_variable_whose_key_stays_with_the_host_is_logged_by_name(
    ends: Ends, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(ends.proxy, "_ask_of_lm", lambda *_: True)
    monkeypatch.setenv("NOVITA_API_KEY", "a-real-key")
    monkeypatch.delenv("OTHER_API_KEY", raising=False)
    with caplog.at_level(logging.INFO, logger="tower_dspy.program"):
        for _ in range(2):
            names = ["NOVITA_API_KEY", "OTHER_API_KEY"]
            assert ends.proxy.resolve_lm(7, "https://api.novita.ai/v1", names, False)
    assert os.environ["NOVITA_API_KEY"] == PLACEHOLDER
    assert "OTHER_API_KEY" not in os.environ
    [said] = own_messages(caplog)
    assert "NOVITA_API_KEY" in said
    assert "a-real-key" not in said


def test_an_interrupted_thread_loses_no_frame_of_others_that_it_sends(ends: Ends) -> None:
    ends.frames.hold("settled", {"call": 1, "strays": None})
    run = ends.interrupted(lambda: ends.frames.send("bypassed", {"call": 2, "lm": "x"}))
    assert isinstance(run.error, Cancelled)
    assert ends.sent() == ["settled", "bypassed"]


def test_the_exchange_of_an_interrupted_thread_is_aborted_when_its_call_settles(
    ends: Ends,
) -> None:
    ends.proxy._last_poll = math.inf  # `is_over` reads nothing
    call = CallProxy(ends.proxy, 1, None)
    run = ends.interrupted(lambda: ends.proxy.call_tool(0, call, {}, {}, None).abort())
    assert isinstance(run.error, Cancelled)
    assert ends.sent() == ["call_tool"]
    call.settled(None)
    call.done(None)
    assert ends.sent() == ["abort", "call"]
    assert not call.waiting and ends.proxy.forget(1) is None


def test_the_settlement_of_a_call_goes_with_its_outcome(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(_: object) -> bytes:
        # What another thread sends takes the queued frames along.
        ends.frames.send("pulse")
        raise Crash

    answered, crashed = (CallProxy(ends.proxy, number, None) for number in (1, 2))
    answered.settled(None)
    answered.done([1])
    answered.settled(["too late"])
    reports = [(body["report"], tail) for _, body, tail in ends.host.receive()]
    assert reports == [({"done": True}, b"[1]"), ({"settled": ["too late"]}, b"")]
    monkeypatch.setattr(proxies, "to_json", crash)
    crashed.settled(None)
    with pytest.raises(Crash):
        crashed.done("?")
    assert ends.sent() == ["pulse"]


def test_an_answer_that_another_thread_has_read_ends_the_wait_for_it(ends: Ends) -> None:
    adopted: list[Any] = []
    loop = asyncio.new_event_loop()
    ends.proxy.serve(FakeRunner(), loop)
    waits = threading.Thread(
        target=lambda: adopted.append(ends.proxy.adopt_lm("openai/m", None, None)), daemon=True
    )
    waits.start()
    while not ends.sent():
        pass
    # What a thread that calls `poll` does in between.
    ends.proxy._lm_answers[-1] = None, True
    waits.join(30)
    loop.close()
    assert adopted == [-1]


def test_a_value_that_cannot_be_read_fails_its_own_exchange_alone(ends: Ends) -> None:
    loop = asyncio.new_event_loop()
    ends.proxy.serve(FakeRunner(), loop)
    exchanges = [ends.proxy.call_tool(0, None, {}, {}, None) for _ in range(2)]
    for exchange, value in zip(exchanges, (b"[" * 1000, b'{"a": 1}'), strict=True):
        assert exchange is not None
        ends.host.send("event", {"exchange": exchange.number, "event": ["value"]}, value)
    ends.proxy._last_poll = 0.0
    ends.proxy.poll()
    failed, read = (exchange.events.get(timeout=30) for exchange in exchanges if exchange)
    loop.close()
    assert failed[:2] == ("failed", "other") and "cannot be read" in failed[2]
    assert read == ("value", {"a": 1})


def test_the_stream_of_a_call_is_reports_until_the_call_is_over(ends: Ends) -> None:
    assert CallProxy(ends.proxy, 1, None).stream() is None
    call = CallProxy(ends.proxy, 1, None, [True, [["ask", "answer"]]])
    assert call.stream() == (True, [["ask", "answer"]])
    call.stream_text(1, "für")
    call.stream_thinking(2, "hm")
    call.stream_event({"status": {"message": "für"}})
    call.end()
    call.stream_text(1, "late")
    call.stream_thinking(1, "late")
    call.stream_event({"status": {"message": "late"}})
    assert list(ends.host.receive()) == [
        ("call", {"call": 1, "report": {"stream_text": 1}}, "für".encode()),
        ("call", {"call": 1, "report": {"stream_thinking": 2}}, b"hm"),
        ("call", {"call": 1, "report": "stream_event"}, '{"status":{"message":"für"}}'.encode()),
    ]


def test_a_wait_for_the_reader_ends_with_its_event_or_its_call(ends: Ends) -> None:
    call = CallProxy(ends.proxy, 1, None)
    waits = [ends.proxy.await_reader(call, None) for _ in range(2)]
    assert [frame[:2] for frame in ends.host.receive()] == [
        ("await_reader", {"exchange": number, "call": 1}) for number in (1, 2)
    ]
    ends.proxy._take_event(1, ["value"], b"null")
    call.end()
    assert [wait.events.get(timeout=30) for wait in waits if wait] == [
        ("value", None),
        ("cancelled",),
    ]
    assert ends.proxy.await_reader(call, None) is None


def test_what_is_left_of_a_budget_comes_with_a_call_and_after_each_change_by_it(
    ends: Ends,
) -> None:
    body = {"call": 1, "lm": None, "target": 1, "remaining": None, "stream": None, "trace": None}
    ends.host.send("start", {**body, "budget": [100, None, False]}, b"{}")
    ends.host.send("start", {**body, "call": 2, "budget": None}, b"{}")
    ends.proxy._receive()
    one, other = ends.proxy.calls.values()
    assert (one.remaining_budget(), other.remaining_budget()) == ([100, None, False], None)
    exchange = ends.proxy.call_tool(0, one, {}, {}, None)
    assert exchange is not None
    # Nothing waits for an event of it any more.
    exchange.abort()
    ends.host.send("budget", {"call": 1, "budget": [40, None, True]})
    # Of a call that has ended.
    ends.host.send("budget", {"call": 3, "budget": [0, None, True]})
    ends.proxy._receive()
    assert (one.remaining_budget(), other.remaining_budget()) == ([40, None, True], None)


def test_a_start_says_whether_its_call_is_read(ends: Ends) -> None:
    for number, read in ((1, {"stream": [False, []]}), (2, {"stream": None})):
        body = {"call": number, "lm": None, "target": 1, "remaining": None, "trace": None, **read}
        ends.host.send("start", body, b"{}")
    ends.proxy._receive()
    assert [call.stream() for call in ends.proxy.calls.values()] == [(False, []), None]
