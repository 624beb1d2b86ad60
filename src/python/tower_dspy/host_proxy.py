"""A worker's proxy of its host: requests and reports as frames on a socket.

The loop's thread reads the frames. A thread that asks whether its call is over also reads them: the
loop may be blocked by the very call that is to stop.
"""

import asyncio
import contextlib
import contextvars
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from tower_dspy import faults
from tower_dspy.frames import Frames
from tower_dspy.interrupt import shielded
from tower_dspy.lm_call import PLACEHOLDER
from tower_dspy.payload import from_json, to_json
from tower_dspy.proxies import CallProxy, ExchangeProxy, LoadProxy
from tower_dspy.start_limit import StartLimit

_log = logging.getLogger("tower_dspy.program")

# Seconds without a heartbeat after which one is missed.
_MISSED = 0.030
# Seconds between two reads of the socket by `poll`: each is a system call.
_POLL_INTERVAL = 0.001
# Milliseconds for which the socket is waited for at a time.
_LM_POLL = 10
_LAST = ("full", "end", "value", "failed")


class HostProxy:
    """The host of one worker."""

    def __init__(self, frames: Frames, passed_keys: Sequence[str] = ()) -> None:
        self.frames = frames
        self._passed_keys = passed_keys
        self.calls: dict[int, CallProxy] = {}
        self._exchanges: dict[int, ExchangeProxy] = {}
        self._exchange_numbers = itertools.count(1)
        # Negative: the host's own numbers are not.
        self._lm_numbers = itertools.count(-1, -1)
        # The load that goes on in this turn of the loop.
        self.loading = 0
        # The host's answers about LMs that are being loaded.
        self._lm_answers: dict[int, tuple[str | None, bool]] = {}
        self._controls: deque[tuple[str, Any]] = deque()
        self._starts: deque[tuple[CallProxy, Any, bytes]] = deque()
        self._events: deque[tuple[ExchangeProxy, tuple[Any, ...]]] = deque()
        self._start_limit = StartLimit()
        # The loop is about to flush the queued frames.
        self._flushes = False
        # The loop's thread.
        self._thread = 0
        self._last_beat = self._last_poll = time.monotonic()

    def serve(self, runner: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Passes the host's requests to the runner from now on."""
        self._runner = runner
        self._loop = loop
        self._thread = threading.get_ident()
        # Not that of a program whose code has read a frame: calls would start with its settings.
        self._context = contextvars.copy_context()
        loop.add_reader(self.frames.fileno(), self._on_readable)

    def beat(self) -> None:
        self._last_beat = time.monotonic()
        self.frames.send("beat")

    def pulse(self) -> None:
        # The loop may be blocked before the turn in which it would flush.
        self.frames.flush()
        # A heartbeat says the same.
        if time.monotonic() - self._last_beat > _MISSED:
            self.frames.send("pulse")

    def blocked(self, frames: list[str], program: str | None, call: CallProxy | None) -> None:
        sequence = None if call is None else call.sequence
        self.frames.send("blocked", {"frames": frames, "program": program, "call": sequence})

    def gave_up(self, replaced: bool) -> None:
        self.frames.send("gave_up", {"replaced": replaced})

    def came_back(self) -> None:
        self.frames.send("came_back")

    def adopt_lm(self, model: str, base_url: str | None, key: str | None) -> int:
        number = next(self._lm_numbers)
        own = {"lm": number, "model": model, "base_url": base_url, "key": key}
        self._ask_of_lm(number, "adopt_lm", {"load": self.loading, **own})
        return number

    def resolve_lm(
        self, number: int, url: str | None, variables: list[str], has_credentials: bool
    ) -> bool:
        provider = {"url": url, "variables": variables, "has_credentials": has_credentials}
        for name in variables:
            # The key stays with the host, as those do that a worker starts without.
            value = os.environ.get(name)
            if value and value != PLACEHOLDER and name not in self._passed_keys:
                os.environ[name] = PLACEHOLDER
                # A program may use the variable for something else.
                _log.info("the key in %s stays with the host: this worker has none there", name)
        return self._ask_of_lm(number, "resolve_lm", {"lm": number, "provider": provider})

    def _ask_of_lm(self, number: int, name: str, body: dict[str, Any]) -> bool:
        """Asks the host about an LM, and waits for the answer. The load blocks the loop anyway."""
        self.frames.send(name, body)
        coming = select.poll()
        coming.register(self.frames, select.POLLIN)
        while number not in self._lm_answers:
            # With a limit: another thread may have read the answer.
            coming.poll(_LM_POLL)
            self._receive_and_schedule()
        error, answer = self._lm_answers.pop(number)
        if error is not None:
            raise ValueError(error)
        return answer

    def open(
        self,
        route: tuple[list[int], str, list[Any] | None, bool] | None,
        timeout: float | None,
        call: CallProxy | None,
        request: Any,
        deliver: Any,
        first_content: float | None,
    ) -> ExchangeProxy | None:
        body = {
            "route": route,
            "timeout": timeout,
            "first_content": first_content,
            "method": request.method,
            "url": request.url,
            "headers": list(request.headers),
        }
        return self._open_exchange("open", call, body, bytes(request.body), deliver)

    def call_tool(
        self,
        tool_id: int,
        call: CallProxy | None,
        arguments: dict[str, Any],
        trace: dict[str, str],
        deliver: Any,
    ) -> ExchangeProxy | None:
        body = {"tool": tool_id, "trace": trace}
        return self._open_exchange("call_tool", call, body, to_json(arguments), deliver)

    def await_reader(self, call: CallProxy, deliver: Any) -> ExchangeProxy | None:
        return self._open_exchange("await_reader", call, {}, b"", deliver)

    def _open_exchange(
        self, name: str, call: CallProxy | None, body: dict[str, Any], payload: bytes, deliver: Any
    ) -> ExchangeProxy | None:
        if call is not None and call.is_over():
            return None
        number = next(self._exchange_numbers)
        exchange = ExchangeProxy(self, number, call, deliver)
        self._exchanges[number] = exchange
        if call is not None and deliver is None:
            call.waiting.add(exchange)
            if call.over:
                exchange.events.put(("cancelled",))
        body["exchange"] = number
        body["call"] = None if call is None else call.sequence
        # At once for a waiting thread: it may be the loop's own.
        send = self.frames.send if deliver is None else self.send_soon
        try:
            send(name, body, payload)
        except ValueError:
            self.forget(number)
            raise
        return exchange

    def send_soon(self, name: str, body: dict[str, Any], payload: bytes = b"") -> None:
        """Sends a frame of a call, together with the others of this turn of the loop.

        Each send wakes the host, which takes a core from other computations.
        """
        if threading.get_ident() != self._thread:
            self.frames.send(name, body, payload)
            return
        self.frames.hold(name, body, payload)
        if not self._flushes:
            self._flushes = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = False
        self.frames.flush()

    def forget(self, number: int) -> ExchangeProxy | None:
        exchange = self._exchanges.pop(number, None)
        if exchange is not None and exchange.call is not None:
            exchange.call.waiting.discard(exchange)
        return exchange

    def poll(self) -> None:
        """Reads frames that have arrived, for code that may be blocking the loop."""
        if time.monotonic() - self._last_poll >= _POLL_INTERVAL:
            shielded(self._receive_and_schedule)

    def _receive_and_schedule(self) -> None:
        if self._receive():
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(self._process, context=self._context)

    def _on_readable(self) -> None:
        self._receive()
        self._process()

    def _receive(self) -> bool:
        received = False
        self._last_poll = time.monotonic()
        for name, body, payload in self.frames.receive():
            received = True
            if name == "start":
                call = CallProxy(self, body["call"], body["lm"], body["stream"], body["trace"])
                call.budget = body.get("budget")
                self.calls[call.sequence] = call
                self._starts.append((call, body, payload))
            elif name == "lm":
                self._lm_answers[body["lm"]] = body["error"], body["keyed"]
            elif name == "event":
                self._take_event(body["exchange"], body["event"], payload)
            elif name == "budget":
                if (call := self.calls.get(body["call"])) is not None:
                    call.budget = body["budget"]
            else:
                if name == "cancel" and (call := self.calls.get(body["call"])) is not None:
                    call.late = body["timed_out"]
                    call.end()
                self._controls.append((name, body))
        return received

    def _take_event(self, number: int, parts: list[Any], payload: bytes) -> None:
        exchange = self._exchanges.get(number)
        if exchange is None:
            return
        if parts[0] in _LAST:
            self.forget(number)
        event = _event(parts, payload)
        if exchange.deliver is None:
            exchange.events.put(event)
        else:
            self._events.append((exchange, event))

    def _process(self) -> None:
        while self._controls:
            name, body = self._controls.popleft()
            if name == "cancel":
                self._runner.cancel(body["call"])
            elif name == "load":
                self._runner.load(body["spec"], LoadProxy(self, body["load"]))
            elif name == "unload":
                self._runner.unload(body["target"])
            elif name == "stop":
                self._runner.stop(body["grace"])
        for _ in range(self._start_limit.current()):
            # Calls that have begun go first.
            if self._events:
                exchange, event = self._events.popleft()
                # A cancelled call gets no event before its signal.
                if exchange.call is None or not exchange.call.over:
                    exchange.deliver(event)
            elif self._starts:
                self._start(*self._starts.popleft())
            else:
                return
        if self._events or self._starts:
            self._start_limit.defer()
            self._loop.call_soon(self._process, context=self._context)

    def _start(self, call: CallProxy, body: dict[str, Any], inputs: bytes) -> None:
        if call.over:
            call.settled(None)
            call.stopped()
            return
        try:
            arguments = (body["target"], from_json(inputs), body["remaining"])
            self._runner.start(call.sequence, call, *arguments)
        except Exception as error:
            call.settled(None)
            call.failed(faults.describe(error))


def _event(parts: list[Any], payload: bytes) -> tuple[Any, ...]:
    """The event of an exchange, see exchange.py; a failure if its value cannot be read."""
    if parts[0] in ("full", "chunk"):
        return (*parts, payload)
    if parts[0] != "value":
        return tuple(parts)
    try:
        return ("value", from_json(payload))
    except ValueError as error:
        return ("failed", "other", f"the value cannot be read: {error}")
