"""Port 2: the runner in a process of its own, which a host reaches by frames on a socket.

The loop's thread does the work. What says that a call is over is noticed by whoever asks, on any
thread: the loop may be held up by the very call that is to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import queue
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import Any

from tower_dspy import faults, pool, startup
from tower_dspy import loop as loops
from tower_dspy.frames import Frames
from tower_dspy.pacing import Pacer
from tower_dspy.tails import to_json

_PR_SET_PDEATHSIG = 1
# Seconds without a heartbeat: one is missed.
_MISSED = 0.030
_LAST = ("full", "end", "value", "failed", "cancelled")


class Call:
    """The port's side of one call, see runner.py."""

    def __init__(self, port: Port, sequence: int, lm: str | None) -> None:
        self._port = port
        self.sequence = sequence
        self._lm = lm
        # The host ended it, or it has its outcome.
        self.over = False
        # Of its code on threads.
        self.waiting: set[Exchange] = set()

    def done(self, value: Any) -> None:
        self._outcome("done", value)

    def finished(self, value: Any) -> None:
        self._outcome("finished", value)
        self._port.calls.pop(self.sequence, None)

    def failed(self, fault: dict[str, Any]) -> None:
        self.end()
        self._port.frames.send("failed", {"call": self.sequence, "fault": fault})

    def settled(self, strays: list[str] | None) -> None:
        self._port.calls.pop(self.sequence, None)
        self._port.frames.send("settled", {"call": self.sequence, "strays": strays})

    def abandon(self) -> None:
        self.end()
        self._port.frames.send("abandoned", {"call": self.sequence})

    def cancel(self) -> None:
        if not self.over:
            self.end()
            self._port.frames.send("cancelled", {"call": self.sequence})

    def is_over(self) -> bool:
        if not self.over:
            self._port.look()
        return self.over

    def partial(self, fields: dict[str, Any]) -> bool:
        tail = to_json(fields)
        if self.is_over():
            return False
        self._port.frames.send("partial", {"call": self.sequence}, tail)
        return True

    def stepped(self) -> None:
        self._port.frames.send("stepped", {"call": self.sequence})

    def bypassed(self, lm: str) -> None:
        self._port.frames.send("bypassed", {"call": self.sequence, "lm": lm})

    def lm(self) -> str | None:
        return self._lm

    def end(self) -> None:
        """It calls no LM any more: who waits for one on a thread is woken."""
        self.over = True
        for exchange in tuple(self.waiting):
            exchange.events.put(("cancelled",))

    def _outcome(self, name: str, value: Any) -> None:
        self.end()
        try:
            tail = to_json(value)
        except Exception as error:
            if name == "finished":
                self.settled(None)
            self.failed(faults.describe(error))
        else:
            self._port.frames.send(name, {"call": self.sequence}, tail)


class Exchange:
    """The port's side of one LM exchange, see transport.py."""

    def __init__(self, port: Port, number: int, call: Call | None, deliver: Any) -> None:
        self._port = port
        self._number = number
        self.call = call
        self.deliver = deliver
        self.events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def wait(self) -> tuple[Any, ...]:
        return self.events.get()

    def abort(self) -> None:
        if self._port.forget(self._number) is not None:
            self._port.frames.send("abort", {"exchange": self._number})


class Port:
    """What the runner and its transports ask for, by frames."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.calls: dict[int, Call] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._exchange_numbers = itertools.count(1)
        # Below zero: those of the host count up from there.
        self._lm_numbers = itertools.count(-1, -1)
        self._adopted: dict[int, str | None] = {}
        self._controls: deque[tuple[str, Any]] = deque()
        self._starts: deque[tuple[Call, Any, bytes]] = deque()
        self._events: deque[tuple[int, tuple[Any, ...]]] = deque()
        self._pacer = Pacer()
        self._stopped = False
        self._beaten = time.monotonic()

    def serve(self, runner: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Hands over to the runner what comes, from now on."""
        self._runner = runner
        self._loop = loop
        loop.add_reader(self.frames.fileno(), self._readable)

    def beat(self) -> None:
        self._beaten = time.monotonic()
        self.frames.send("beat")

    def pulse(self) -> None:
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

    def log(self, level: int, logger: str, message: str) -> None:
        self.frames.send("log", {"level": level, "logger": logger, "message": message})

    def adopt_lm(self, model: str, base_url: str | None, key: str | None) -> int:
        number = next(self._lm_numbers)
        body = {"lm": number, "model": model, "base_url": base_url, "key": key}
        self.frames.send("adopt_lm", body)
        # Loading holds the loop up anyway.
        coming = select.poll()
        coming.register(self.frames, select.POLLIN)
        while number not in self._adopted:
            coming.poll()
            self.look()
        error = self._adopted.pop(number)
        if error is not None:
            raise ValueError(error)
        return number

    def open(self, lm_id: int, call: Call | None, request: Any, deliver: Any) -> Exchange | None:
        body = {
            "lm": lm_id,
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
        self.frames.send(name, body, tail)
        return exchange

    def forget(self, number: int) -> Exchange | None:
        exchange = self._exchanges.pop(number, None)
        if exchange is not None and exchange.call is not None:
            exchange.call.waiting.discard(exchange)
        return exchange

    def look(self) -> None:
        """Notices what has come, for code that may be holding the loop up."""
        if self._receive():
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(self._hand_over)

    def _readable(self) -> None:
        self._receive()
        self._hand_over()

    def _receive(self) -> bool:
        some = False
        for name, body, tail in self.frames.receive():
            some = True
            if name == "start":
                call = self.calls[body["call"]] = Call(self, body["call"], body["lm"])
                self._starts.append((call, body, tail))
            elif name == "adopted":
                self._adopted[body["lm"]] = body["error"]
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


def run(taken: socket.socket, hello: dict[str, Any]) -> None:
    """The life of a worker process."""
    _die_with(hello["parent"])
    frames = Frames(taken)
    # A child that the program forks must not keep the socket open when this process is gone.
    os.register_at_fork(after_in_child=frames.close)
    port = Port(frames)
    try:
        startup.before_import()
        sys.path[:0] = hello["python_path"]
        weaker = startup.import_dspy(port.log)
        threads = hello["sync_threads"]
        loop = loops.make(hello["uvloop"], None, port, (pool.GRACE, threads))
        loop.run_until_complete(startup.warm())
        startup.calm_gc()
        from tower_dspy.runner import Runner
        from tower_dspy.watchdog import Watchdog

        workers = pool.Pool(port, loop, "tower-dspy-sync", threads, pool.GRACE, threads)
        runner = Runner(port, loop, workers)
    except BaseException as error:
        frames.send("unusable", {"fault": faults.describe(error)})
        os._exit(1)
    frames.send("ready", {"weaker": weaker})
    port.serve(runner, loop)
    # What holds the GIL, it cannot name; the host sees that by the heartbeat.
    watchdog = Watchdog(port, runner, loop)
    loops.run(loop, port.is_stopped)
    watchdog.stop()
    loops.close(loop)
    # Not by the end of the interpreter: it would wait for the program's threads.
    os._exit(0)


def _die_with(parent: int) -> None:
    """The kernel ends this process when its host ends, also while code here holds the GIL."""
    with contextlib.suppress(AttributeError, OSError):  # not on this system: the socket tells
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


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
