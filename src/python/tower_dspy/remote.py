"""A worker's side of what its host keeps: calls and LM exchanges, each told of by frames.

What says that a call is over is noticed by whoever asks, on any thread: the loop may be held up by
the very call that is to stop.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from tower_dspy import faults
from tower_dspy.tails import to_json

if TYPE_CHECKING:
    from tower_dspy.port import Port


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
        self._port.tell("failed", {"call": self.sequence, "fault": fault})

    def settled(self, strays: list[str] | None) -> None:
        self._port.calls.pop(self.sequence, None)
        self._port.tell("settled", {"call": self.sequence, "strays": strays})

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

    def stepped(self, exchange: int | None, counts: tuple[int, int, int] | None) -> None:
        body = {"call": self.sequence, "exchange": exchange, "counts": counts}
        self._port.tell("stepped", body)

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
            self._port.tell(name, {"call": self.sequence}, to_json(value))
        except Exception as error:
            if name == "finished":
                self.settled(None)
            self.failed(faults.describe(error))


class Exchange:
    """The port's side of one LM exchange, see exchange.py."""

    def __init__(self, port: Port, number: int, call: Call | None, deliver: Any) -> None:
        self._port = port
        self.number = number
        self.call = call
        self.deliver = deliver
        self.events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def wait(self) -> tuple[Any, ...]:
        return self.events.get()

    def abort(self) -> None:
        if self._port.forget(self.number) is not None:
            self._port.frames.send("abort", {"exchange": self.number})
