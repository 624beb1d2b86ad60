"""The trace of a call, as the current context of OpenTelemetry, where its API is installed.

Spans that a program and its libraries make are then part of the trace that the call came with.
Without the API the functions here do nothing.
"""

from collections.abc import Callable
from typing import Any

# The API's module `opentelemetry.context` and its W3C propagator; None without the API.
_context: Any = None
_propagator: Any = None


def install() -> list[str]:
    """Looks whether OpenTelemetry's API is installed, once; returns a warning if it is broken."""
    global _context, _propagator
    try:
        # Here, as it may not be installed.
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return []
    except Exception as error:
        # Such as one of a plug-in for its contexts.
        return [f"calls run without a trace, as opentelemetry cannot be imported: {error!r}"]
    _context, _propagator = context, TraceContextTextMapPropagator()
    return []


def enter(call: Any) -> None:
    """Makes the trace of a call the current one; none for a call that has none."""
    if _context is None:
        return
    headers = call.trace()
    empty = _context.Context()
    _context.attach(_propagator.extract(headers, empty) if headers else empty)


def leave() -> None:
    """Makes none the current trace."""
    if _context is not None:
        _context.attach(_context.Context())


def carried(function: Callable[[], Any]) -> Callable[[], Any]:
    """`function` in the trace that is the current one now, on whatever thread it runs."""
    if _context is None:
        return function
    current = _context.get_current()

    def run() -> Any:
        token = _context.attach(current)
        try:
            return function()
        finally:
            _context.detach(token)

    return run


def headers() -> dict[str, str]:
    """The headers `traceparent` and `tracestate` of the current span; empty without one."""
    found: dict[str, str] = {}
    if _propagator is not None:
        _propagator.inject(found)
    return found


def add_headers(given: list[tuple[str, str]]) -> None:
    """Adds the headers of the current span to those of an LM call, unless it has some."""
    if _context is not None and not any(name.lower() == "traceparent" for name, _ in given):
        given += headers().items()
