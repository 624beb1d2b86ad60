"""Spans of OpenTelemetry's SDK whose status a cancel of their call does not make an error.

A cancel raises an exception in the program, for which the callbacks of instrumentations, and spans
that are used as context managers, set the status ERROR. By the conventions a cancel that was meant
leaves it unset.
"""

import asyncio
import functools
import sys
from types import ModuleType
from typing import Any

from tower_dspy.call_state import Cancelled, current_call
from tower_dspy.patches.replace import replace, when_imported


def install() -> None:
    """Replaces the method of spans as soon as the SDK is imported."""
    when_imported("opentelemetry.sdk.trace", _replace)


def _replace(sdk: ModuleType) -> None:
    replace(sdk.Span, "set_status", _unless_cancelled)


def _unless_cancelled(set_status: Any) -> Any:
    @functools.wraps(set_status)
    def with_check(span: Any, status: Any, *args: Any, **options: Any) -> None:
        # Of a `StatusCode` or a `Status`.
        code = getattr(status, "status_code", status)
        if code.name == "ERROR" and _is_cancel(sys.exc_info()[1]):
            return
        set_status(span, status, *args, **options)

    return with_check


def _is_cancel(error: BaseException | None) -> bool:
    """Whether a cancel of the current call raised the exception that is being handled."""
    if not isinstance(error, asyncio.CancelledError | Cancelled):
        return False
    state = current_call()
    return state is not None and state.is_over()
