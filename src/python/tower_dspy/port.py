"""Port 2: what the runner and its transports ask for, by frames on a socket to the host.

The loop's thread does the work. Whatever thread asks whether its call is over also takes in what
has come meanwhile: the loop may be held up by the very call that is to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import select
import threading
import time
from collections import deque
from typing import Any

from tower_dspy import faults
from tower_dspy.frames import Frames
from tower_dspy.pacing import Pacer
from tower_dspy.remote import Call, Exchange
from tower_dspy.tails import to_json

# Seconds without a heartbeat: one is missed.
_MISSED = 0.030
# Seconds for which what was looked at is known: each look is a call of the system.
_FRESH = 0.001
_LAST = ("full", "end", "value", "failed")


class Port:
    """The port of one worker."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.calls: dict[int, Call] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._exchange_numbers = itertools.count(1)
        # Below zero: those of the host count up from there.
        self._lm_numbers = itertools.count(-1, -1)
        self._adopted: dict[int, tuple[str | None, bool]] = {}
        self._controls: deque[tuple[str, Any]] = deque()
        self._starts: deque[tuple[Call, Any, bytes]] = deque()
        self._events: deque[tuple[int, tuple[Any, ...]]] = deque()
        self._pacer = Pacer()
        self._stopped = False
        # The loop's thread, and whether it is about to send what it holds.
        self._thread = 0
        self._telling = False
        self._beaten = self._looked = time.monotonic()

    def serve(self, runner: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Hands over to the runner what comes, from now on."""
        self._runner = runner
        self._loop = loop
        self._thread = threading.get_ident()
        loop.add_reader(self.frames.fileno(), self._readable)

    def beat(self) -> None:
        self._beaten = time.monotonic()
        self.frames.send("beat")

    def pulse(self) -> None:
        # The loop may be held up in the turn in which it was to tell something.
        self.frames.flush()
        # A heartbeat says as much.
        if time.monotonic() - self._beaten > _MISSED:
            self.frames.send("pulse")

    def blocked(self, frames: list[str], program: str | None, call: Call | None) -> None:
        sequence = None if call is None else call.sequence
        self.frames.send("blocked", {"frames": frames, "program": program, "call": sequence})

    def gave_up(self, replaced: bool) -> None:
        self.frames.send("gave_up", {"replaced": replaced})

    def came_back(self) -> None:
        self.frames.send("came_back")

    def stopped(self) -> None:
        self._stopped = True

    def is_stopped(self) -> bool:
        return self._stopped

    def adopt_lm(self, model: str, base_url: str | None, key: str | None) -> tuple[int, bool]:
        number = next(self._lm_numbers)
        body = {"lm": number, "model": model, "base_url": base_url, "key": key}
        self.frames.send("adopt_lm", body)
        # Loading holds the loop up anyway.
        coming = select.poll()
        coming.register(self.frames, select.POLLIN)
        while number not in self._adopted:
            coming.poll()
            self._take_in()
        error, keyed = self._adopted.pop(number)
        if error is not None:
            raise ValueError(error)
        return number, keyed

    def open(
        self,
        route: tuple[list[int], str] | None,
        timeout: float | None,
        call: Call | None,
        request: Any,
        deliver: Any,
    ) -> Exchange | None:
        body = {
            "route": route,
            "timeout": timeout,
            "method": request.method,
            "url": request.url,
            "headers": list(request.headers),
        }
        return self._begin("open", call, body, bytes(request.body), deliver)

    def call_tool(
        self, tool_id: int, call: Call | None, arguments: dict[str, Any], deliver: Any
    ) -> Exchange | None:
        return self._begin("call_tool", call, {"tool": tool_id}, to_json(arguments), deliver)

    def _begin(
        self, name: str, call: Call | None, body: dict[str, Any], tail: bytes, deliver: Any
    ) -> Exchange | None:
        if call is not None and call.is_over():
            return None
        number = next(self._exchange_numbers)
        exchange = Exchange(self, number, call, deliver)
        self._exchanges[number] = exchange
        if call is not None and deliver is None:
            call.waiting.add(exchange)
            if call.over:
                exchange.events.put(("cancelled",))
        body["exchange"] = number
        body["call"] = None if call is None else call.sequence
        # A thread that waits for it may be the loop's.
        send = self.frames.send if deliver is None else self.tell
        try:
            send(name, body, tail)
        except ValueError:
            self.forget(number)
            raise
        return exchange

    def tell(self, name: str, body: dict[str, Any], tail: bytes = b"") -> None:
        """Sends a frame of a call. Those of one turn of the loop go together: each time that
        something is sent, the host wakes, and takes a core from whoever computes there.
        """
        if threading.get_ident() != self._thread:
            self.frames.send(name, body, tail)
            return
        self.frames.hold(name, body, tail)
        if not self._telling:
            self._telling = True
            self._loop.call_soon(self._told)

    def _told(self) -> None:
        self._telling = False
        self.frames.flush()

    def forget(self, number: int) -> Exchange | None:
        exchange = self._exchanges.pop(number, None)
        if exchange is not None and exchange.call is not None:
            exchange.call.waiting.discard(exchange)
        return exchange

    def look(self) -> None:
        """Notices what has come, for code that may be holding the loop up."""
        if time.monotonic() - self._looked >= _FRESH:
            self._take_in()

    def _take_in(self) -> None:
        if self._receive():
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(self._hand_over)

    def _readable(self) -> None:
        self._receive()
        self._hand_over()

    def _receive(self) -> bool:
        some = False
        self._looked = time.monotonic()
        for name, body, tail in self.frames.receive():
            some = True
            if name == "start":
                call = self.calls[body["call"]] = Call(self, body["call"], body["lm"])
                self._starts.append((call, body, tail))
            elif name == "adopted":
                self._adopted[body["lm"]] = body["error"], body["keyed"]
            elif name == "event":
                self._take_event(body["exchange"], _event(body, tail))
            else:
                if name == "cancel" and (call := self.calls.get(body["call"])) is not None:
                    call.end()
                self._controls.append((name, body))
        return some

    def _take_event(self, number: int, event: tuple[Any, ...]) -> None:
        exchange = self._exchanges.get(number)
        if exchange is None:
            return
        if exchange.deliver is None:
            exchange.events.put(event)
            if event[0] in _LAST:
                self.forget(number)
        else:
            self._events.append((number, event))

    def _hand_over(self) -> None:
        while self._controls:
            name, body = self._controls.popleft()
            if name == "cancel":
                self._runner.cancel(body["call"])
            elif name == "load":
                self._load(body["load"], body["spec"])
            elif name == "unload":
                self._runner.unload(body["target"])
            elif name == "stop":
                self._runner.stop(body["grace"])
        if not (self._events or self._starts):
            return
        for _ in range(self._pacer.allowance()):
            # What has begun goes before what is to begin.
            if self._events:
                self._deliver(*self._events.popleft())
            elif self._starts:
                self._start(*self._starts.popleft())
            else:
                return
        if self._events or self._starts:
            self._pacer.held_back()
            self._loop.call_soon(self._hand_over)

    def _deliver(self, number: int, event: tuple[Any, ...]) -> None:
        exchange = self._exchanges.get(number)
        # A cancelled call hears of nothing more before its signal.
        if exchange is not None and not (exchange.call is not None and exchange.call.over):
            if event[0] in _LAST:
                self.forget(number)
            exchange.deliver(event)

    def _load(self, number: int, spec: dict[str, Any]) -> None:
        try:
            loaded = self._runner.load(spec)
        except BaseException as error:  # what its import raises, SystemExit included
            self.frames.send("not_loaded", {"load": number, "fault": faults.describe(error)})
        else:
            self.frames.send("loaded", {"load": number, "target": loaded["id"]}, to_json(loaded))

    def _start(self, call: Call, body: dict[str, Any], inputs: bytes) -> None:
        if call.over:
            call.settled(None)
            call.failed(faults.CANCELLED)
            return
        try:
            arguments = (body["target"], json.loads(inputs), body["remaining"])
            self._runner.start(call.sequence, call, *arguments)
        except Exception as error:
            call.settled(None)
            call.failed(faults.describe(error))


def _event(body: dict[str, Any], tail: bytes) -> tuple[Any, ...]:
    what = body["what"]
    if what == "chunk":
        return (what, tail)
    if what == "failed":
        return (what, body["kind"], body["message"])
    if what == "end":
        return (what,)
    if what == "value":
        return (what, json.loads(tail))
    head = (what, body["status"], [(name, value) for name, value in body["headers"]])
    return (*head, tail) if what == "full" else head
