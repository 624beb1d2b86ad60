"""Transports of DSPy's own client (lm15) that send through the host.

DSPy's engines build a provider's request and read its answer; a transport of lm15 carries both.
Only the transports are replaced, so capabilities, dialects and options stay DSPy's own. The routers
import the classes from `transports` on first use; providers that a program makes itself have them
from their own modules.
"""

from collections.abc import AsyncIterator
from typing import Any

from dspy._vendor.lm15 import transports
from dspy._vendor.lm15.providers import async_base, base

from tower_dspy.exchange import AsyncExchange, Request, SyncExchange, http_request
from tower_dspy.faults import OverBudget
from tower_dspy.lm_call import CURRENT_LM_CALL


class RequestOverBudget(transports.TransportError, OverBudget):
    """The transport error of a request that the host refused."""


_ERRORS = {
    "connect": transports.ConnectError,
    "connect_timeout": transports.ConnectTimeout,
    "read": transports.ReadError,
    "read_timeout": transports.ReadTimeout,
    "deadline": transports.ReadTimeout,
    "write": transports.WriteError,
    "protocol": transports.ProtocolError,
    "over_budget": RequestOverBudget,
}


def install() -> None:
    """Replaces the classes of lm15's transports."""
    for module in (transports, base):
        module.StdlibTransport = SyncTransport
    for module in (transports, async_base):
        module.StdlibAsyncTransport = AsyncTransport


def failure(kind: str, message: str) -> Exception:
    """The exception that lm15's own transport would raise."""
    return _ERRORS.get(kind, transports.TransportError)(message)


class WholeAnswer(Exception):
    """An answer as a whole to a request for a stream, from a server that does not stream."""

    def __init__(self, headers: list[tuple[str, str]], body: bytes) -> None:
        super().__init__("the server does not stream")
        self.headers = headers
        self.body = body


def _is_whole(status: int, headers: list[tuple[str, str]]) -> bool:
    lm_call = CURRENT_LM_CALL.get()
    if lm_call is None or not lm_call.is_streamed or status != 200:
        return False
    types = (value for name, value in headers if name.lower() == "content-type")
    return next(types, "").lower().startswith("application/json")


def _head(status: int, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """The head of a response, as far as the host passes it on."""
    return {"status": status, "reason": "", "headers": headers, "http_version": "HTTP/1.1"}


class _Transport:
    """The options of lm15's own transport. The host keeps the connections."""

    def __init__(
        self,
        *,
        read_timeout: float | None = None,
        user_agent: str = "lm15/stdlib",
        **_: Any,
    ) -> None:
        self._read_timeout = read_timeout
        # The headers of lm15's own transport, where the engine sets none.
        self._headers = {
            "user-agent": user_agent,
            "accept": "*/*",
            "accept-encoding": "identity",
        }

    def _http_request(self, request: transports.TransportRequest) -> Request:
        given = {name.lower() for name, _ in request.headers}
        usual = [item for item in self._headers.items() if item[0] not in given]
        limit = self._read_timeout if request.read_timeout is None else request.read_timeout
        headers = [*usual, *request.headers]
        sent = transports.TransportRequest(request.method, request.url, headers, request.body)
        return http_request(sent, limit, failure, is_lm_request=True)


class AsyncTransport(_Transport):
    """The transport for the loop's thread, and for loops of a program's own."""

    def stream(self, request: transports.TransportRequest) -> "_AsyncResponse":
        return _AsyncResponse(self._http_request(request))

    async def aclose(self) -> None:
        pass


class _AsyncResponse(AsyncExchange):
    async def __aenter__(self) -> transports.AsyncTransportResponse:
        status, headers = await self.answer()
        if _is_whole(status, headers):
            raise WholeAnswer(headers, b"".join([chunk async for chunk in self.body()]))
        head = _head(status, headers)
        return _AsyncBody(**head, chunks=self.body(), release=self._release)

    async def __aexit__(self, *_: Any) -> None:
        self.abort()

    async def _release(self, _: bool) -> None:
        self.abort()


class _AsyncBody(transports.AsyncTransportResponse):
    """A response whose lines cost less: a stream has some for each token."""

    async def aiter_lines(self) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


class SyncTransport(_Transport):
    """The transport for threads, such as those of `dspy.Parallel` and of sync tools."""

    def stream(self, request: transports.TransportRequest) -> transports.TransportResponse:
        opened = SyncExchange(self._http_request(request))
        status, headers = opened.answer()
        if _is_whole(status, headers):
            raise WholeAnswer(headers, b"".join(opened.body()))
        head, release = _head(status, headers), lambda _: opened.abort()
        return transports.TransportResponse(**head, chunks=opened.body(), release=release)

    def close(self) -> None:
        pass
