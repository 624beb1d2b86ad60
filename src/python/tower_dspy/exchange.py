"""HTTP requests of a program, carried by Rust.

DSPy's own client and httpx hand over their requests here (see patches/lm15.py and httpx.py); Rust
sends them through the LM's tower stack, or with the call's limits alone where they are no LM call.
The port's side of one exchange is

    port.open(route, timeout, call, request, deliver)
                       -> exchange, or None if the call may not start any
    exchange.number    by which `call.stepped` names it
    exchange.wait()    -> the next event (threads only, without the GIL)
    exchange.abort()   nobody reads on: the connection closes

where `route` is the host's numbers of the LMs that the request may belong to, the likeliest first,
with the model's name; None for a request that is no LM call. An event is one of

    ("full", status, headers, body)   ("head", status, headers)   ("chunk", bytes)   ("end",)
    ("failed", kind, message)         ("cancelled",)

Invariants:
1. A cancelled call sends nothing more: Rust closed its connections before Python was told.
2. An exchange that is left early, for whatever reason, is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tower_dspy.gate import refuse
from tower_dspy.lm_call import CURRENT
from tower_dspy.scope import Scope, current_scope

Failure = Callable[[str, str], Exception]
Answer = tuple[int, list[tuple[str, str]], Any]

# The host's side, which is there when the first call is.
_port: Any = None

_NO_MORE = "the call was cancelled: it sends no request any more"
_WHILE_IT_WAITED = "the call was cancelled while it waited for an answer"
_CALL_ENDED = "the call that sent the request has ended, and with it the answer"


def connect(port: Any) -> None:
    """Sends requests through `port` from now on."""
    global _port
    _port = port


def _route(scope: Scope | None, request: Any, model: str | None) -> tuple[list[int], str] | None:
    """Which LMs a request may belong to; None if it is no LM call.

    `model` is None where only DSPy can know whether it is one, and "" for the call of an SDK, which
    has the model's name in its body.
    """
    lms = [] if scope is None else list(scope.lms)
    lm_call = CURRENT.get()
    if lm_call is not None:
        if lm_call.lm_id is not None and lms[:1] != [lm_call.lm_id]:
            lms.insert(0, lm_call.lm_id)
        if request.method == "POST" or model is not None:
            return lms, lm_call.model
    if model is None:
        return None
    return lms, model or _model_in(request.body)


def _model_in(body: bytes) -> str:
    try:
        model = json.loads(body).get("model")
    except (ValueError, AttributeError):
        return ""
    return model if isinstance(model, str) else ""


def _open(
    scope: Scope | None,
    request: Any,
    timeout: float | None,
    failure: Failure,
    model: str | None,
    deliver: Any,
) -> Any:
    """Opens an exchange with the port; None if the call may not have one."""
    call = None if scope is None else scope.call
    route = _route(scope, request, model)
    try:
        exchange = _port.open(route, timeout, call, request, deliver)
    except ValueError as error:
        # A request that the host cannot send, or one of an LM that it does not know.
        raise failure("other", str(error)) from error
    lm_call = CURRENT.get()
    if route is not None and lm_call is not None and exchange is not None:
        lm_call.exchange = exchange.number
    return exchange


class AsyncExchange:
    """One exchange of code on a loop; its events arrive by `deliver`, on the host's thread."""

    def __init__(
        self,
        request: Any,
        timeout: float | None,
        failure: Failure,
        model: str | None = None,
    ) -> None:
        self._request = request
        self._timeout = timeout
        self._failure = failure
        self._model = model
        self._exchange: Any = None
        self._events: deque[tuple[Any, ...]] = deque()
        self._waiter: asyncio.Future | None = None
        self._scope: Scope | None = None
        self._interrupted = False

    async def answer(self) -> Answer:
        """Sends the request; the body is bytes, or an iterator of those that come one by one."""
        event = await self.first()
        if event[0] == "full":
            self._ended()
            return event[1], event[2], event[3]
        return event[1], event[2], self._chunks()

    def abort(self) -> None:
        """Nobody reads on."""
        exchange = self._ended()
        if exchange is not None:
            exchange.abort()

    def deliver(self, event: tuple[Any, ...]) -> None:
        """Takes an event, on the host's thread."""
        self._events.append(event)
        self._wake()

    def interrupt(self) -> None:
        """Ends the wait for an event: none will come, as the call is over."""
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
            scope = self._scope
            if scope is not None and scope.is_over() and current_scope() is not scope:
                raise self._failure("read", _CALL_ENDED)
            if self._interrupted:
                raise asyncio.CancelledError(_WHILE_IT_WAITED)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self._events.popleft()
        if event[0] == "failed":
            self._ended()
            raise self._failure(event[1], event[2])
        return event

    def _open(self, scope: Scope | None) -> Any:
        request, self._request = self._request, None
        return _open(scope, request, self._timeout, self._failure, self._model, self.deliver)

    async def first(self) -> tuple[Any, ...]:
        """Opens the exchange and waits for its first event."""
        scope = current_scope()
        self._exchange = self._open(scope)
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
            # The caller has nothing to close yet.
            self.abort()
            raise

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next()
            if event[0] == "end":
                self._ended()
                return
            yield event[1]

    def _ended(self) -> Any:
        exchange, self._exchange = self._exchange, None
        if self._scope is not None and self._scope.exchanges is not None:
            self._scope.exchanges.discard(self)
        return exchange


def _resolve(waiter: asyncio.Future) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def blocked(scope: Scope | None) -> None:
    """Ends an attempt to send a request in a cancelled call: raises once, then parks.

    A program that swallows even that would spin on an exception that is raised each time, and
    hold the loop up; parked, it sends nothing and uses no time.
    """
    if scope is None or not scope.was_blocked:
        if scope is not None:
            scope.was_blocked = True
        raise asyncio.CancelledError(_NO_MORE)
    await asyncio.get_running_loop().create_future()


class SyncExchange:
    """One exchange of code on a thread."""

    def __init__(
        self,
        request: Any,
        timeout: float | None,
        failure: Failure,
        model: str | None = None,
    ) -> None:
        self._failure = failure
        self._scope = scope = current_scope()
        self._exchange = _open(scope, request, timeout, failure, model, None)
        if self._exchange is None:
            refuse(scope, _NO_MORE)

    def answer(self) -> Answer:
        """The status, the headers, and the body, as bytes or as an iterator of its pieces."""
        try:
            event = self._next()
        except BaseException:
            self.abort()
            raise
        if event[0] == "full":
            return event[1], event[2], event[3]
        return event[1], event[2], self._chunks()

    def abort(self) -> None:
        """Nobody reads on."""
        self._exchange.abort()

    def _next(self) -> tuple[Any, ...]:
        event = self._exchange.wait()
        if event[0] == "cancelled":
            if self._scope is not None and current_scope() is not self._scope:
                # Another call reads on.
                raise self._failure("read", _CALL_ENDED)
            refuse(self._scope, _WHILE_IT_WAITED)
        if event[0] == "failed":
            raise self._failure(event[1], event[2])
        return event

    def _chunks(self) -> Iterator[bytes]:
        while (event := self._next())[0] != "end":
            yield event[1]
