"""httpx transports that send the requests of calls through the host.

litellm, embedders, the SDKs of providers and a program's own requests use httpx. Within a call a
request has the call's deadline and ends with it; an LM call also has the limits, the key and the
accounting of its LM. Outside a call, only DSPy's own LM calls and embeddings go through the host.
"""

import functools
import inspect
import logging
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from tower_dspy.call_state import current_call
from tower_dspy.dry_run import IN_DRY_RUN
from tower_dspy.exchange import Answer, AsyncExchange, Request, SyncExchange, http_request
from tower_dspy.faults import OverBudget
from tower_dspy.lm_call import CURRENT_LM_CALL, LM_PATHS, PLACEHOLDER
from tower_dspy.patches.replace import replace, when_imported

_log = logging.getLogger("tower_dspy.startup")

# The attribute of a transport that the host cannot replace: the reason.
_OWN = "_tower_dspy_own"
# The reason why only its LM calls go through the host: they need the key.
_OWN_ROOTS = "_tower_dspy_own_roots"


def install() -> None:
    """Replaces the transports' methods as soon as httpx is imported."""
    when_imported("httpx", _replace)


def _replace(httpx: ModuleType) -> None:
    class RequestOverBudget(httpx.TransportError, OverBudget):
        """The transport error of a request that the host refused."""

    errors = {
        "connect": httpx.ConnectError,
        "connect_timeout": httpx.ConnectTimeout,
        "read": httpx.ReadError,
        "read_timeout": httpx.ReadTimeout,
        "deadline": httpx.ReadTimeout,
        "write": httpx.WriteError,
        "protocol": httpx.RemoteProtocolError,
        "over_budget": RequestOverBudget,
    }

    def request_of(request: Any, body: bytes) -> Request:
        def failure(kind: str, message: str) -> Exception:
            return errors.get(kind, httpx.TransportError)(message, request=request)

        timeout = request.extensions.get("timeout", {}).get("read")
        return http_request(_outgoing(request, body), timeout, failure, _is_lm_request(request))

    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __init__(self, opened: Any) -> None:
            self._opened = opened

        def __iter__(self) -> Iterator[bytes]:
            return self._opened.body()

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._opened.body()

        def close(self) -> None:
            self._opened.abort()

        async def aclose(self) -> None:
            self._opened.abort()

    def response(opened: SyncExchange | AsyncExchange, answer: Answer) -> Any:
        status, headers = answer
        # As bytes: from text httpx takes ASCII alone.
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return httpx.Response(status, headers=raw, stream=Body(opened))

    def handle(original: Any) -> Any:
        @functools.wraps(original)
        def handle_request(self: Any, request: Any) -> Any:
            if not _goes_through_host(self, request):
                return original(self, request)
            opened = SyncExchange(request_of(request, b"".join(request.stream)))
            return response(opened, opened.answer())

        return handle_request

    def handle_async(original: Any) -> Any:
        @functools.wraps(original)
        async def handle_async_request(self: Any, request: Any) -> Any:
            if not _goes_through_host(self, request):
                return await original(self, request)
            body = b"".join([part async for part in request.stream])
            opened = AsyncExchange(request_of(request, body))
            return response(opened, await opened.answer())

        return handle_async_request

    for transport in (httpx.HTTPTransport, httpx.AsyncHTTPTransport):
        replace(transport, "__init__", _marking_own_connections)
    replace(httpx.HTTPTransport, "handle_request", handle)
    replace(httpx.AsyncHTTPTransport, "handle_async_request", handle_async)


def _marking_own_connections(init: Any) -> Any:
    """Records why the host could not make the connections of a transport."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        given = signature.bind(self, *args, **options).arguments
        verify, proxy = given.get("verify", True), given.get("proxy")
        unverified = isinstance(verify, ssl.SSLContext) and verify.verify_mode == ssl.CERT_NONE
        for reason, own in (
            ("a client certificate", given.get("cert") is not None),
            ("a Unix socket", given.get("uds") is not None),
            ("a local address", given.get("local_address") is not None),
            ("no check of certificates", verify is False or unverified),
            ("a proxy of its own", proxy is not None and not _is_of_environment(proxy)),
        ):
            if own:
                setattr(self, _OWN, reason)
        if isinstance(verify, str) or (isinstance(verify, ssl.SSLContext) and _adds_roots(verify)):
            setattr(self, _OWN_ROOTS, "certificate authorities of its own")

    return __init__


def _adds_roots(context: ssl.SSLContext) -> bool:
    return not _usual_roots().issuperset(context.get_ca_certs(binary_form=True))


@functools.cache
def _usual_roots() -> set[bytes]:
    import httpx  # imported by now, as one of its transports exists

    contexts = (ssl.create_default_context(), httpx.create_ssl_context())
    return {root for context in contexts for root in context.get_ca_certs(binary_form=True)}


def _is_of_environment(proxy: Any) -> bool:
    """Whether the host's client takes the same proxy from the environment."""
    url = str(getattr(proxy, "url", proxy)).rstrip("/")
    return url in {known.rstrip("/") for known in urllib.request.getproxies().values()}


def _goes_through_host(transport: Any, request: Any) -> bool:
    """Whether a request goes through the host; reports a call's request that does not."""
    state, lm_call = current_call(), CURRENT_LM_CALL.get()
    if request.url.scheme not in ("http", "https"):
        return False
    if IN_DRY_RUN.get():
        return True
    if state is None:
        # An LM call of no call, as during the import of a program's module.
        return lm_call is not None and getattr(transport, _OWN, None) is None
    is_lm_request = lm_call is not None or _is_lm_request(request)
    if not (is_lm_request or state.carries_http):
        return False
    reason = getattr(transport, _OWN, None)
    if reason is None and not is_lm_request:
        reason = getattr(transport, _OWN_ROOTS, None)
    if reason is None:
        return True
    if lm_call is None and is_lm_request:
        state.call.bypassed(f"{request.url.host}, by httpx with {reason}")
    elif lm_call is None:
        _warn_once(request.url.host, reason)
    return False


@functools.cache
def _warn_once(host: str, reason: str) -> None:
    _log.warning(
        "requests to %s go past the host, without the deadline of their call: httpx makes their "
        "connections with %s",
        host,
        reason,
    )


def _is_lm_request(request: Any) -> bool:
    path = request.url.path
    return (request.method == "POST" and path.endswith(LM_PATHS)) or _has_placeholder(request)


def _has_placeholder(request: Any) -> bool:
    """Whether the host puts a key into the request, also one that lists models or is a redirect."""
    placeholder = PLACEHOLDER.encode()
    return placeholder in request.url.query or any(
        placeholder in value for _, value in request.headers.raw
    )


def _outgoing(request: Any, body: bytes) -> SimpleNamespace:
    """The parts of an httpx request that the host reads."""
    # The host's client writes these itself, for the body that it sends.
    skipped = (b"content-length", b"transfer-encoding", b"connection")
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        # A host that is not the URL's is the program's choice.
        if name.lower() not in skipped and (name.lower(), value) != (b"host", request.url.netloc)
    ]
    url = str(request.url)
    return SimpleNamespace(method=request.method, url=url, headers=headers, body=body)
