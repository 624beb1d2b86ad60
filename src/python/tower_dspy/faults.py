"""What a failure says to Rust: plain data, made on Python's thread."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

# A provider's date in the far future is no advice to a caller with a deadline.
_LONGEST_RETRY_AFTER = 86_400.0


# The end of a call that was told to stop. It has no traceback: making one costs a millisecond of
# the loop's time, which the calls that are cancelled with it would wait for.
CANCELLED = {"kind": "cancelled", "type": "CancelledError", "message": "", "traceback": ""}


class HostError(Exception):
    """A failure that this room raises itself, with the fields that Rust tells apart."""

    def __init__(
        self, kind: str, message: str, field: str | None = None, expected: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.expected = expected


def describe(error: BaseException) -> dict[str, Any]:
    """The failure as a dict of strings and numbers."""
    if isinstance(error, HostError):
        fault = {"kind": error.kind, "field": error.field, "expected": error.expected}
    elif isinstance(error, asyncio.CancelledError):
        fault = {"kind": "cancelled"}
    elif (lm := _lm_failure(error)) is not None:
        fault = {"kind": "lm", **lm}
    else:
        fault = {"kind": "raised"}
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    return {**fault, "type": name, "message": _text(error), "traceback": _traceback(error)}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:  # a broken __str__ must not hide the failure itself
        return f"(its message could not be read: {type(failed).__name__})"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as failed:
        return f"(its traceback could not be read: {type(failed).__name__})"


def _lm_failure(error: BaseException) -> dict[str, Any] | None:
    from dspy.utils.exceptions import LMError

    if not isinstance(error, LMError):
        return None
    after = getattr(error, "retry_after", None)
    if not isinstance(after, int | float) or not 0 <= after <= _LONGEST_RETRY_AFTER:
        after = None
    status = getattr(error, "status", None)
    if not isinstance(status, int) or not 100 <= status <= 999:
        status = None
    if status is None and type(error).__name__ in _REFUSED:
        status = 400
    return {"status": status, "retry_after": None if after is None else float(after)}


# Raised before any HTTP answer, and no better at a second try.
_REFUSED = frozenset(
    {
        "LMConfigurationError",
        "LMNotConfiguredError",
        "LMUnsupportedFeatureError",
        "LMInvalidRequestError",
    }
)
