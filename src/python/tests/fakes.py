"""Fakes of the host: of its calls, of its LMs, and of what a runner reports to."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tower_dspy.faults import CANCELLED

OUTCOMES = ("done", "failed")
ENDS = ("settled", "abandon")


class FakeCall:
    """The host's side of a call."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        # The host cancelled the call, and Python does not know yet.
        self.cancelled_by_host = False
        self.late = False
        self.trace_headers: dict[str, str] | None = None

    def done(self, value: Any) -> None:
        self._tell("done", value)

    def failed(self, fault: dict[str, Any]) -> None:
        self._tell("failed", fault)

    def stopped(self) -> None:
        self.failed(CANCELLED)

    def settled(self, strays: list[str] | None) -> None:
        self._tell("settled", strays)

    def abandon(self, working: bool) -> None:
        self._tell("abandon", working)

    def cancel(self) -> None:
        """Rust would close the call's LM connections."""

    def lm(self) -> str | None:
        return None

    def remaining_budget(self) -> tuple[int | None, float | None, bool] | None:
        return None

    def trace(self) -> dict[str, str] | None:
        return self.trace_headers

    def stream(self) -> tuple[bool, Any] | None:
        return None

    def is_over(self) -> bool:
        return self.cancelled_by_host or bool(self.named(*OUTCOMES))

    def timed_out(self) -> bool:
        return self.late

    def partial(self, fields: dict[str, Any]) -> bool:
        if not self.is_over():
            self._tell("partial", fields)
        return not self.is_over()

    def stepped(self, exchange: int | None, counts: tuple[int, int, int] | None) -> None:
        self._tell("stepped", (exchange, counts))

    def bypassed(self, lm: str) -> None:
        self._tell("bypassed", lm)

    def tool_began(self, number: int, name: str) -> None:
        self._tell("tool_began", (number, name))

    def tool_ended(self, number: int, failed: bool) -> None:
        self._tell("tool_ended", (number, failed))

    def named(self, *names: str) -> list[Any]:
        """The values of the events of these names."""
        return [what for name, what in self.events if name in names]

    @property
    def outcome(self) -> Any:
        (outcome,) = self.named(*OUTCOMES)
        return outcome

    async def until(self, *names: str) -> None:
        """Waits for an event of one of these names."""
        await eventually(lambda: self.named(*names), pause=0)

    async def ended(self) -> None:
        """Waits for the end and some turns more; asserts that there is one end and one outcome."""
        await self.until(*ENDS)
        await turns(5)
        assert len(self.named(*ENDS)) == 1, self.events
        assert len(self.named(*OUTCOMES)) == 1, self.events

    def _tell(self, name: str, what: Any) -> None:
        self.events.append((name, what))


async def eventually(holds: Callable[[], Any], pause: float = 0.001) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(pause)


async def turns(count: int) -> None:
    """Lets the loop run for some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeExchangeHost:
    """A host that records requests and tool calls, and answers each with the same events."""

    def __init__(self, *events: tuple[Any, ...]) -> None:
        self.events = events
        # The calls may send no request any more.
        self.closed = False
        # Route, timeout and request of each.
        self.sent: list[tuple[Any, float | None, Any]] = []
        # The seconds until the first content that each may take.
        self.first_content: list[float | None] = []
        # Id and arguments of each tool call.
        self.tool_calls: list[tuple[int, dict[str, Any]]] = []
        self.aborted = 0
        self.stopped = 0
        # The bytes of chunks that were reported as read, by each report.
        self.reads: list[int] = []

    def answer(self, body: dict[str, Any], status: int = 200) -> None:
        headers = [("content-type", "application/json")]
        self.events = (("full", status, headers, json.dumps(body).encode()),)

    def open(
        self, route: Any, timeout: Any, _call: Any, request: Any, deliver: Any, first_content: Any
    ) -> Any:
        if self.closed:
            return None
        self.sent.append((route, timeout, request))
        self.first_content.append(first_content)
        return self._exchange(deliver)

    def call_tool(
        self, tool_id: int, _call: Any, arguments: dict[str, Any], _trace: Any, deliver: Any
    ) -> Any:
        self.tool_calls.append((tool_id, arguments))
        return self._exchange(deliver)

    def _exchange(self, deliver: Any) -> "FakeExchange":
        for event in self.events if deliver is not None else ():
            asyncio.get_running_loop().call_soon(deliver, event)
        return FakeExchange(self, self.events)


class FakeExchange:
    def __init__(self, host: FakeExchangeHost, events: tuple[tuple[Any, ...], ...]) -> None:
        self._host = host
        self._events = iter(events)
        self.number = len(host.sent)

    def wait(self) -> tuple[Any, ...]:
        return next(self._events)

    def read(self, count: int) -> None:
        self._host.reads.append(count)

    def stop(self) -> None:
        self._host.stopped += 1

    def abort(self) -> None:
        self._host.aborted += 1


class FakeLmHost:
    """A host that takes LMs over."""

    def __init__(self, keyed: bool = True) -> None:
        self.adopted: list[tuple[str | None, ...]] = []
        # The number, the URL, the variables, and whether the provider has credentials.
        self.resolved: list[tuple[int, str | None, list[str], bool]] = []
        self._keyed = keyed

    def adopt_lm(self, *lm: str | None) -> int:
        self.adopted.append(lm)
        return 11

    def resolve_lm(
        self, lm_id: int, url: str | None, variables: list[str], has_credentials: bool
    ) -> bool:
        self.resolved.append((lm_id, url, variables, has_credentials))
        return self._keyed


class FakeLoad:
    """The host's side of a load."""

    def __init__(self) -> None:
        self.description: dict[str, Any] | None = None
        self.fault: dict[str, Any] | None = None
        # How often the load went on.
        self.turns = 0
        self.wanted = True

    def is_wanted(self) -> bool:
        return self.wanted

    def resumed(self) -> None:
        self.turns += 1

    def loaded(self, description: dict[str, Any]) -> None:
        self.description = description

    def failed(self, fault: dict[str, Any]) -> None:
        self.fault = fault


class FakeHost(FakeLmHost):
    def __init__(self) -> None:
        super().__init__()
        self.beats = 0
        self.abandoned = 0
        self.replaced = 0
        self.pulses = 0
        # The reports of a blocked loop: frames, program, call.
        self.reports: list[tuple[list[str], str | None, FakeCall | None]] = []

    def beat(self) -> None:
        self.beats += 1

    def pulse(self) -> None:
        self.pulses += 1

    def blocked(self, frames: list[str], program: str | None, call: FakeCall | None) -> None:
        self.reports.append((frames, program, call))

    def gave_up(self, replaced: bool) -> None:
        self.abandoned += 1
        self.replaced += replaced

    def came_back(self) -> None:
        self.abandoned -= 1
