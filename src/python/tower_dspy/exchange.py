"""Exchanges with the host: a request of a program, and the events that answer it.

DSPy's own client and httpx hand HTTP requests over here (see patches/lm15.py and patches/httpx.py).
The host sends LM calls through the LM's tower stack, and other requests with the call's limits
alone. Tool calls are exchanges as well, see host_tools.py, and so are waits for the reader of a
call's stream, see call_stream.py. The host's side of one exchange is

    host.open(route, timeout, call, request, deliver, first_content)
                       -> exchange, or None if the call may not start any
    host.await_reader(call, deliver)
                       -> exchange, or None as above
    exchange.number    by which `call.stepped` names it
    exchange.wait()    -> the next event (threads only, without the GIL)
    exchange.read(n)   n bytes of chunks were read, since the last report
    exchange.abort()   the answer is not read further: the connection closes
    exchange.stop()    the same, and a failure of the kind `stopped` follows once it is closed

where `route` is the host's numbers of the LMs that the request may belong to, the likeliest first,
with the model's name, its price, see prices.py, and whether an embedder makes the request; None for
a request that is no LM call.
`first_content` are the seconds that a member of a group has until the first content of its answer.
An event is one of

    ("full", status, headers, body)   ("head", status, headers)   ("chunk", bytes)   ("end",)
    ("value", value)                  ("failed", kind, message)   ("cancelled",)

Invariants:
1. A cancelled call sends nothing more: the host aborted its exchanges before it signalled Python.
2. An exchange that is left early, for whatever reason, is aborted.
3. The host reads a streamed answer no further while more than 256 KiB of its chunks are not yet
   reported as read, see flow.rs.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tower_dspy.call_state import CallState, current_call
from tower_dspy.checkpoint import CANCELLED, refuse_task, refuse_thread
from tower_dspy.dry_run import IN_DRY_RUN, NotSent
from tower_dspy.lm_call import CURRENT_LM_CALL, LmCall
from tower_dspy.prices import Tier, tiers
from tower_dspy.trace_context import add_headers

# The status and the headers of an HTTP answer.
Answer = tuple[int, list[tuple[str, str]]]

# The host that sends requests; set before the first call.
_host: Any = None

# The bytes of chunks that are reported as read at once; far fewer than the host waits for.
_REPORTED = 1 << 16
# Bytes that are read in one turn of the loop: about 40 tokens of OpenAI's stream, some 2 ms.
_TURN = 1 << 13

# The last events of an answer.
_WHOLE = ("full", "end")

_CALL_ENDED = "the call that sent the request has ended, and with it the answer"


def connect(host: Any) -> None:
    """Sets the host that sends requests from now on."""
    global _host
    _host = host


@dataclass
class Request:
    """A request that an exchange sends."""

    # Opens the host's exchange for a call and a function that takes its events; returns None if
    # the call may not have one.
    open: Callable[[CallState | None, Any], Any]
    # The exception for a failed exchange, by the kind and the message of the failure.
    failure: Callable[[str, str], Exception]
    # The LM call that it is made for.
    lm_call: LmCall | None = None
    # Whether it is a request to the LM, and not one beside it, as for an image.
    is_lm_request: bool = True

    def failed(self, kind: str, message: str) -> Exception:
        """The exception for this failure, which the LM call keeps."""
        if self.lm_call is not None:
            self.lm_call.failure = kind
        return self.failure(kind, message)

    def begun(self, exchange: Any) -> None:
        """The exchange of the request has begun."""
        if self.lm_call is not None:
            self.lm_call.begin(exchange)

    def answered(self) -> None:
        """The whole answer came: the LM call has content, unless it was a request beside it."""
        if self.lm_call is not None and self.is_lm_request:
            self.lm_call.content_by = None


def http_request(
    request: Any,
    timeout: float | None,
    failure: Callable[[str, str], Exception],
    is_lm_request: bool,
) -> Request:
    """An HTTP request, with the time that its next byte is waited for.

    `is_lm_request` is false where only DSPy can know whether it is an LM call.
    """
    lm_call = CURRENT_LM_CALL.get()

    def open_exchange(state: CallState | None, deliver: Any) -> Any:
        if IN_DRY_RUN.get():
            if request.method == "POST":
                raise NotSent(request)
            raise failure("connect", "a dry run sends nothing")
        call = None if state is None else state.call
        first_content = None
        if lm_call is not None:
            if lm_call.is_stopped():
                raise made.failed("stopped", "another LM answered before")
            lm_call.failure = None
            if lm_call.content_by is not None:
                first_content = max(0.0, lm_call.content_by - time.monotonic())
        route = _route(state, request, is_lm_request)
        if route is not None:
            # The host takes them out again: they are the parent of its span of the LM call.
            add_headers(request.headers)
        try:
            exchange = _host.open(route, timeout, call, request, deliver, first_content)
        except ValueError as error:
            # A request that the host cannot send, or of an LM that it does not know.
            raise made.failed("other", str(error)) from error
        if route is not None and lm_call is not None and exchange is not None:
            lm_call.exchange = exchange.number
        return exchange

    made = Request(open_exchange, failure, lm_call, is_lm_request or request.method == "POST")
    return made


def reader_request() -> Request:
    """A wait for the reader of the call's stream. Its one event comes when that has read enough."""

    def open_exchange(state: CallState | None, deliver: Any) -> Any:
        return _host.await_reader(state.call, deliver)

    return Request(open_exchange, lambda _, message: RuntimeError(message))


def _route(
    state: CallState | None, request: Any, is_lm_request: bool
) -> tuple[list[int], str, list[Tier] | None, bool] | None:
    """The LMs that a request may belong to, its model and price, and whether an embedder makes it.

    None if it is no LM call.
    """
    lms = [] if state is None else list(state.lms)
    lm_call = CURRENT_LM_CALL.get()
    if lm_call is not None:
        if lm_call.lm_id is not None and lms[:1] != [lm_call.lm_id]:
            lms.insert(0, lm_call.lm_id)
        if request.method == "POST" or is_lm_request:
            price = tiers(lm_call.model, request.body)
            return lms, lm_call.model, price, lm_call.is_embedding
    # Only DSPy knows the provider of a model.
    return (lms, _model_in(request.body), None, False) if is_lm_request else None


def _model_in(body: bytes) -> str:
    try:
        model = json.loads(body).get("model")
    except (ValueError, AttributeError):
        return ""
    return model if isinstance(model, str) else ""


class _BodyReader:
    """The reader of an answer's body, which reports to the host the bytes that it has read."""

    # The host's side; None once it is not needed.
    _exchange: Any
    _unreported = 0

    def _read(self, event: tuple[Any, ...]) -> bytes:
        """The bytes of an event."""
        name, data = event
        # A whole answer was read by the host already.
        if name == "chunk":
            self._unreported += len(data)
            if self._unreported >= _REPORTED and self._exchange is not None:
                self._exchange.read(self._unreported)
                self._unreported = 0
        return data


class AsyncExchange(_BodyReader):
    """An exchange of code on a loop. The host calls `deliver` for each event, on its thread."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._exchange = None
        # A queue from the first event on: it takes half a KiB, and the LM may take long.
        self._events: deque[tuple[Any, ...]] | tuple[()] = ()
        # Resolves once there is an event, or none will come.
        self._changed: asyncio.Future[None] | None = None
        self._state: CallState | None = None
        self._interrupted = False

    async def answer(self) -> Answer:
        """Sends an HTTP request and waits for its answer."""
        _, status, headers, *full = await self.first()
        if full:
            self._events += (("full", *full), ("end",))
        return status, headers

    async def body(self) -> AsyncIterator[bytes]:
        """The chunks of the answer's body. A program may drop them unread."""
        taken = 0
        try:
            while (event := await self._next())[0] != "end":
                yield (data := self._read(event))
                taken += len(data)
                if taken >= _TURN and self._events:
                    taken = 0
                    # What came at once is read in turns with the loop's other work.
                    await asyncio.sleep(0)
        finally:
            self.abort()

    async def first(self) -> tuple[Any, ...]:
        """Opens the exchange and waits for its first event."""
        self._loop = asyncio.get_running_loop()
        state = self._state = current_call()
        self._exchange = self._request.open(state, self.deliver)
        if self._exchange is None:
            await refuse_task(state)
        if state is not None:
            state.exchanges.add(self)
        self._request.begun(self)
        try:
            event = await self._next()
        except BaseException:
            # The caller has nothing to close yet.
            self.abort()
            raise
        if event[0] != "head":
            self._ended()
        return event

    def abort(self) -> None:
        """Ends the exchange: its answer is not read further."""
        exchange = self._ended()
        if exchange is not None:
            exchange.abort()

    def deliver(self, event: tuple[Any, ...]) -> None:
        """Adds an event, on the host's thread."""
        if isinstance(self._events, tuple):
            self._events = deque()
        self._events.append(event)
        self._wake()

    def stop(self) -> None:
        """Ends the exchange, by a failure as its last event: another LM call has answered."""
        if self._exchange is not None:
            self._exchange.stop()

    def interrupt(self) -> None:
        """Ends the wait for an event: none will come, as the call is over."""
        self._interrupted = True
        self._wake()

    def _wake(self) -> None:
        if self._loop is asyncio.get_running_loop():
            self._set_changed()
        else:
            # The loop of a program on a thread, which may be closed by now.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._set_changed)

    def _set_changed(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _next(self) -> tuple[Any, ...]:
        while not self._events:
            state = self._state
            if state is not None and state.is_over() and current_call() is not state:
                raise self._request.failure("read", _CALL_ENDED)
            if self._interrupted:
                raise asyncio.CancelledError(CANCELLED)
            self._changed = self._loop.create_future()
            await self._changed
        event = self._events.popleft()
        if event[0] == "failed":
            self._ended()
            raise self._request.failed(event[1], event[2])
        if event[0] in _WHOLE:
            self._request.answered()
        return event

    def _ended(self) -> Any:
        exchange, self._exchange = self._exchange, None
        if self._state is not None:
            self._state.exchanges.discard(self)
        return exchange


class SyncExchange(_BodyReader):
    """An exchange of code on a thread, opened at once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        # The rest of a complete answer.
        self._events: deque[tuple[Any, ...]] = deque()
        self._state = current_call()
        self._exchange = request.open(self._state, None)
        if self._exchange is None:
            refuse_thread(self._state)
        request.begun(self)

    def answer(self) -> Answer:
        """Waits for an HTTP answer."""
        _, status, headers, *full = self.first()
        if full:
            self._events += (("full", *full), ("end",))
        return status, headers

    def body(self) -> Iterator[bytes]:
        """The chunks of the answer's body. A program may drop them unread."""
        try:
            while (event := self._next())[0] != "end":
                yield self._read(event)
        finally:
            self.abort()

    def first(self) -> tuple[Any, ...]:
        """Waits for the first event."""
        try:
            return self._next()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Ends the exchange: its answer is not read further."""
        self._exchange.abort()

    def stop(self) -> None:
        """Ends the exchange, from any thread, by a failure as its last event."""
        self._exchange.stop()

    def _next(self) -> tuple[Any, ...]:
        event = self._events.popleft() if self._events else self._exchange.wait()
        if event[0] == "cancelled":
            if self._state is not None and current_call() is not self._state:
                # Another call reads the answer.
                raise self._request.failure("read", _CALL_ENDED)
            refuse_thread(self._state)
        if event[0] == "failed":
            raise self._request.failed(event[1], event[2])
        if event[0] in _WHOLE:
            self._request.answered()
        return event
