"""Spans of OpenTelemetry's SDK whose status a cancel of their call does not make an error.

A cancel raises an exception in the program, for which the callbacks of instrumentations, and spans
that are used as context managers, set the status ERROR. By the conventions a cancel that was meant
leaves it unset. A limit of time is an error of type `timeout`.
"""

import asyncio
import functools
import sys
from types import ModuleType
from typing import Any

from tower_dspy.call_state import Cancelled, current_call
from tower_dspy.patches.replace import replace, when_imported


def install() -> None:
    """Replaces methods of spans as soon as the SDK is imported."""
    when_imported("opentelemetry.sdk.trace", _replace)


def _replace(sdk: ModuleType) -> None:
    replace(sdk.Span, "set_status", _unless_cancelled)
    replace(sdk.Span, "end", functools.partial(_with_timeout, sdk.StatusCode.ERROR))


def _with_timeout(error: Any, end: Any) -> Any:
    # `start_as_current_span` sets no status for an exception that is no `Exception`.
    @functools.wraps(end)
    def with_check(span: Any, *args: Any, **options: Any) -> None:
        call = _cancelled_call(sys.exc_info()[1])
        if call is not None and call.timed_out() and span.status.is_unset:
            span.set_status(error)
        end(span, *args, **options)

    return with_check


def _unless_cancelled(set_status: Any) -> Any:
    @functools.wraps(set_status)
    def with_check(span: Any, status: Any, *args: Any, **options: Any) -> None:
        # Of a `StatusCode` or a `Status`; the SDK judges others.
        code = getattr(status, "status_code", status)
        if getattr(code, "name", None) == "ERROR":
            call = _cancelled_call(sys.exc_info()[1])
            if call is not None:
                if not call.timed_out():
                    return
                span.set_attribute("error.type", "timeout")
        set_status(span, status, *args, **options)

    return with_check


def _cancelled_call(error: BaseException | None) -> Any:
    """The host's side of the current call, if its cancel raised this exception."""
    if not isinstance(error, asyncio.CancelledError | Cancelled):
        return None
    state = current_call()
    return None if state is None or not state.is_over() else state.call
