"""DSPy's HTTP, carried by Rust: each LM call of a program leaves Python through here.

DSPy builds a provider's request and reads its answer; between the two these transports hand the
bytes to Rust, which sends them through the LM's tower stack. The port's side of one exchange is

    port.open(lm_id, call, request, deliver)  -> exchange, or None if the call may not start any
    exchange.wait()                           -> the next event (threads only, without the GIL)
    exchange.abort()                          nobody reads on: the connection closes

and an event is one of

    ("full", status, headers, body)   ("head", status, headers)   ("chunk", bytes)   ("end",)
    ("failed", kind, message)         ("cancelled",)

Invariants:
1. A cancelled call sends nothing more: Rust closed its connections before Python was told.
2. An exchange that is left early, for whatever reason, is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from dspy._vendor.lm15 import transports

from tower_dspy.gate import refuse
from tower_dspy.scope import Scope, current_scope
from tower_dspy.toolbox import ToolError

_ERRORS = {
    "connect": transports.ConnectError,
    "connect_timeout": transports.ConnectTimeout,
    "read": transports.ReadError,
    "read_timeout": transports.ReadTimeout,
    "write": transports.WriteError,
    "protocol": transports.ProtocolError,
}


def _lm_failure(kind: str, message: str) -> Exception:
    return _ERRORS.get(kind, transports.TransportError)(message)


class AsyncTransport:
    """For the loop's thread."""

    def __init__(self, port: Any, lm_id: int) -> None:
        self._port = port
        self._lm_id = lm_id

    def stream(self, request: transports.TransportRequest) -> _AsyncExchange:
        return _AsyncExchange(self._port, self._lm_id, request)


class _AsyncExchange:
    """One exchange; its events arrive by `deliver`, called on the loop's thread."""

    _failure = staticmethod(_lm_failure)

    def __init__(self, port: Any, lm_id: int, request: transports.TransportRequest) -> None:
        self._port = port
        self._lm_id = lm_id
        self._request = request
        self._exchange: Any = None
        self._events: deque[tuple[Any, ...]] = deque()
        self._waiter: asyncio.Future | None = None
        self._scope: Scope | None = None
        self._interrupted = False

    def deliver(self, event: tuple[Any, ...]) -> None:
        self._events.append(event)
        self._wake()

    def interrupt(self) -> None:
        """Ends the wait for an event: none will come, as the call was cancelled."""
        self._interrupted = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None:
            return
        loop = waiter.get_loop()
        if loop is asyncio.get_running_loop():
            _resolve(waiter)
        else:
            # Of a program that runs a loop of its own on a thread; it may be closed by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, waiter)

    async def _next(self) -> tuple[Any, ...]:
        while not self._events:
            if self._interrupted:
                raise asyncio.CancelledError("the call was cancelled while it waited for its LM")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self._events.popleft()
        if event[0] == "failed":
            self._ended()
            raise self._failure(event[1], event[2])
        return event

    def _open(self, call: Any) -> Any:
        request, self._request = self._request, None
        return self._port.open(self._lm_id, call, request, self.deliver)

    async def _first(self) -> tuple[Any, ...]:
        """Opens the exchange and waits for its first event."""
        scope = current_scope()
        self._exchange = self._open(None if scope is None else scope.call)
        if self._exchange is None:
            await blocked(scope)
        if scope is not None:
            self._scope = scope
            if scope.exchanges is None:
                scope.exchanges = set()
            scope.exchanges.add(self)
        try:
            return await self._next()
        except BaseException:
            # `__aexit__` is not called for an entry that failed.
            self._abort()
            raise

    async def __aenter__(self) -> transports.AsyncTransportResponse:
        event = await self._first()
        if event[0] == "full":
            self._ended()
            chunks = _once(event[3])
        else:
            chunks = self._chunks()
        return transports.AsyncTransportResponse(
            status=event[1],
            reason="",
            headers=event[2],
            http_version="HTTP/1.1",
            chunks=chunks,
            release=self._release,
        )

    async def __aexit__(self, *_: Any) -> None:
        self._abort()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next()
            if event[0] == "end":
                self._ended()
                return
            yield event[1]

    async def _release(self, _: bool) -> None:
        self._abort()

    def _abort(self) -> None:
        exchange = self._ended()
        if exchange is not None:
            exchange.abort()

    def _ended(self) -> Any:
        exchange, self._exchange = self._exchange, None
        if self._scope is not None and self._scope.exchanges is not None:
            self._scope.exchanges.discard(self)
        return exchange


def _resolve(waiter: asyncio.Future) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def blocked(scope: Scope | None) -> None:
    """Ends an attempt to call an LM in a cancelled call: raises once, then parks.

    A program that swallows even that would spin on an exception that is raised each time, and
    hold the loop up; parked, it makes no LM call and uses no time.
    """
    if scope is None or not scope.was_blocked:
        if scope is not None:
            scope.was_blocked = True
        raise asyncio.CancelledError("the call was cancelled: it makes no LM call any more")
    await asyncio.get_running_loop().create_future()


class SyncTransport:
    """For threads, such as those of `dspy.Parallel` and of sync tools."""

    def __init__(self, port: Any, lm_id: int) -> None:
        self._port = port
        self._lm_id = lm_id

    def stream(self, request: transports.TransportRequest) -> transports.TransportResponse:
        scope = current_scope()
        exchange = self._port.open(
            self._lm_id, None if scope is None else scope.call, request, None
        )
        if exchange is None:
            refuse(scope, "the call was cancelled: it makes no LM call any more")
        try:
            event = _wait(exchange, scope)
        except BaseException:
            exchange.abort()
            raise
        full = event[0] == "full"
        return transports.TransportResponse(
            status=event[1],
            reason="",
            headers=event[2],
            http_version="HTTP/1.1",
            chunks=iter((event[3],)) if full else _sync_chunks(exchange, scope),
            release=lambda _: exchange.abort(),
        )


def _wait(exchange: Any, scope: Scope | None) -> tuple[Any, ...]:
    event = exchange.wait()
    if event[0] == "cancelled":
        refuse(scope, "the call was cancelled while it waited for its LM")
    if event[0] == "failed":
        raise _lm_failure(event[1], event[2])
    return event


def _sync_chunks(exchange: Any, scope: Scope | None) -> Iterator[bytes]:
    while (event := _wait(exchange, scope))[0] != "end":
        yield event[1]


def _tool_failure(_: str, message: str) -> Exception:
    return ToolError(message)


class ToolExchange(_AsyncExchange):
    """A call of a Rust tool by code on the loop, or on a loop of its own; see toolbox.py."""

    _failure = staticmethod(_tool_failure)

    def _open(self, call: Any) -> Any:
        return self._port.call_tool(self._lm_id, call, self._request, self.deliver)

    async def answer(self) -> Any:
        event = await self._first()
        self._ended()
        return event[1]


def call_tool(port: Any, tool_id: int, arguments: dict[str, Any]) -> Any:
    """The same for threads."""
    scope = current_scope()
    exchange = port.call_tool(tool_id, None if scope is None else scope.call, arguments, None)
    if exchange is None:
        refuse(scope, "the call was cancelled: it calls no tool any more")
    try:
        event = exchange.wait()
    except BaseException:
        exchange.abort()
        raise
    if event[0] == "cancelled":
        refuse(scope, "the call was cancelled while it waited for a tool")
    if event[0] == "failed":
        raise ToolError(event[2])
    return event[1]
