"""A worker's proxies of the loads, calls and exchanges that its host keeps.

Each method sends a frame. The end of a call is noticed on any thread that asks for it: the loop may
be blocked by the very call that is to stop.
"""

from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from tower_dspy import faults
from tower_dspy.interrupt import shielded
from tower_dspy.payload import to_json


@dataclass(eq=False)
class LoadProxy:
    """The host's side of one load, see loads.py."""

    _host: Any
    _number: int

    def is_wanted(self) -> bool:
        # The host's side tells no worker that the caller of a load has gone.
        return True

    def resumed(self) -> None:
        self._host.loading = self._number

    def loaded(self, described: dict[str, Any]) -> None:
        body = {"load": self._number, "target": described["id"]}
        self._host.frames.send("loaded", body, to_json(described))

    def failed(self, fault: dict[str, Any]) -> None:
        self._host.frames.send("not_loaded", {"load": self._number, "fault": fault})


@dataclass(eq=False)
class CallProxy:
    """The host's side of one call, see runner.py."""

    _host: Any
    sequence: int
    _lm: str | None
    _stream: list[Any] | None = None
    _trace: dict[str, str] | None = None
    # What is left of its budgets, as of the last LM call that ended.
    budget: list[Any] | None = None
    # The host ended the call, or it has its outcome.
    over: bool = False
    # A limit of time ended it.
    late: bool = False
    # All its work has ended. Reported with the outcome, so that no crash comes between the two.
    _has_settled: bool = False
    # The exchanges that its threads wait for.
    waiting: "set[ExchangeProxy]" = field(default_factory=set)

    def done(self, value: Any) -> None:
        self.end()
        try:
            self._report_soon({"done": self._has_settled}, to_json(value))
        except Exception as error:
            self.failed(faults.describe(error))

    def failed(self, fault: dict[str, Any]) -> None:
        self.end()
        self._report_soon({"failed": (fault, self._has_settled)})

    def stopped(self) -> None:
        self.failed(faults.CANCELLED)

    def settled(self, strays: list[str] | None) -> None:
        self.end()
        self._host.calls.pop(self.sequence, None)
        # Those of threads that were interrupted before they could end them.
        for exchange in tuple(self.waiting):
            exchange.abort()
        if strays is None:
            self._has_settled = True
        else:
            self._report_soon({"settled": strays})

    def abandon(self, _working: bool) -> None:
        # All of it ends with this process.
        self.end()
        self._report("abandoned")

    def cancel(self) -> None:
        if not self.over:
            self.end()
            self._report("cancelled")

    def is_over(self) -> bool:
        if not self.over:
            self._host.poll()
        return self.over

    def timed_out(self) -> bool:
        return self.late

    def partial(self, fields: dict[str, Any]) -> bool:
        payload = to_json(fields)
        if self.is_over():
            self._report("late_partial")
            return False
        self._report("partial", payload)
        return True

    def stepped(self, exchange: int | None, counts: tuple[int, int, int] | None) -> None:
        self._report_soon({"stepped": (exchange, counts)})

    def bypassed(self, lm: str) -> None:
        self._report({"bypassed": lm})

    def tool_began(self, number: int, name: str) -> None:
        self._report_soon({"tool_began": (number, name)})

    def tool_ended(self, number: int, failed: bool) -> None:
        self._report_soon({"tool_ended": (number, failed)})

    def lm(self) -> str | None:
        return self._lm

    def trace(self) -> dict[str, str] | None:
        return self._trace

    def remaining_budget(self) -> list[Any] | None:
        return self.budget

    def stream(self) -> tuple[bool, Any] | None:
        return None if self._stream is None else tuple(self._stream)

    def stream_text(self, lm_call: int, text: str) -> None:
        if not self.over:
            self._report_soon({"stream_text": lm_call}, text.encode())

    def stream_thinking(self, lm_call: int, text: str) -> None:
        if not self.over:
            self._report_soon({"stream_thinking": lm_call}, text.encode())

    def stream_event(self, event: dict[str, Any]) -> None:
        if not self.over:
            self._report_soon("stream_event", to_json(event))

    def end(self) -> None:
        """Ends the call on this side: threads that wait for an exchange are woken."""
        self.over = True
        for exchange in tuple(self.waiting):
            exchange.events.put(("cancelled",))

    def _report(self, report: Any, payload: bytes = b"") -> None:
        self._host.frames.send("call", {"call": self.sequence, "report": report}, payload)

    def _report_soon(self, report: Any, payload: bytes = b"") -> None:
        self._host.send_soon("call", {"call": self.sequence, "report": report}, payload)


@dataclass(eq=False)
class ExchangeProxy:
    """The host's side of one exchange, see exchange.py."""

    _host: Any
    number: int
    call: CallProxy | None
    deliver: Any
    events: SimpleQueue[tuple[Any, ...]] = field(default_factory=SimpleQueue)

    def wait(self) -> tuple[Any, ...]:
        return self.events.get()

    def read(self, count: int) -> None:
        body = {"exchange": self.number, "bytes": count}
        # At once from a thread that waits: it may be the loop's own.
        (self._host.frames.send if self.deliver is None else self._host.send_soon)("read", body)

    def stop(self) -> None:
        self._host.frames.send("stop", {"exchange": self.number})

    def abort(self) -> None:
        shielded(self._abort)

    def _abort(self) -> None:
        if self._host.forget(self.number) is not None:
            self._host.frames.send("abort", {"exchange": self.number})
