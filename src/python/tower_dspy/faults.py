"""Failures of calls as plain data for Rust."""

import asyncio
import contextlib
import importlib
import math
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from tower_dspy import advice

# A provider's date in the far future is no advice to a caller with a deadline.
_LONGEST_RETRY_AFTER = 86_400.0


# The failure of a cancelled call. It has no traceback: making one takes a millisecond of the loop's
# time, which the calls that are cancelled with it would wait for.
CANCELLED = {"kind": "cancelled", "type": "CancelledError", "message": "", "traceback": ""}


class OverBudget(Exception):
    """The host did not send a request of an LM call, because a budget of the call is used up."""


class HostError(Exception):
    """A failure that the host raises itself, with the fields that Rust reads."""

    def __init__(
        self, kind: str, message: str, field: str | None = None, expected: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.expected = expected


@contextlib.contextmanager
def host_error(kind: str, message: str) -> Iterator[None]:
    """Raises HostError for a failure of the block, with the failure's text after the message."""
    try:
        yield
    except HostError:
        raise
    except Exception as error:
        raise HostError(kind, f"{message}: {advice.without_foreign(str(error))}") from error


def describe(error: BaseException) -> dict[str, Any]:
    """The failure as a dict of strings and numbers."""
    if isinstance(error, HostError):
        fault = {"kind": error.kind, "field": error.field, "expected": error.expected}
    elif isinstance(error, asyncio.CancelledError):
        fault = {"kind": "cancelled"}
    elif failures := _lm_failures(error):
        fault = {"kind": "lm", **_summary(failures)}
    else:
        fault = {"kind": "raised"}
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    raised_at = _text("frames", lambda: _raised_at(error))
    message = _text("message", lambda: str(error))
    if fault["kind"] == "lm":
        message = advice.without_foreign(message)
    lines = _text("traceback", lambda: _traceback(error))
    texts = {"message": message, "traceback": lines, "raised_at": raised_at}
    return {**fault, "type": name, **texts}


def _raised_at(error: BaseException) -> str:
    """The frame that raised the error, as `file:line function`: the innermost one of the program's
    own code, or else the innermost one."""
    frames = traceback.walk_tb(error.__traceback__)
    found = [(frame.f_code, line) for frame, line in frames]
    own = [(code, line) for code, line in found if not code.co_filename.startswith(_LIBRARIES)]
    # A file that is imported is read, and not run: it has no frame.
    file = error.filename if isinstance(error, SyntaxError) else None
    if file and (not own or os.path.isabs(file)):
        return f"{file}:{error.lineno}"
    for code, line in (own or found)[-1:]:
        return f"{code.co_filename}:{line} {code.co_name}"
    return ""


def _traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of the host and of the import system
    that come before the first other one.

    A failure that the host raises itself has told all, unless code of the program's caused it: then
    it has the traceback of the cause.
    """
    shown = error
    if isinstance(error, HostError):
        if error.__cause__ is None or not _has_own_frames(error.__cause__):
            return ""
        shown = error.__cause__
    first = shown.__traceback__
    while first is not None and _is_of_host(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return "".join(traceback.format_exception(type(shown), shown, first or shown.__traceback__))


def _has_own_frames(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    names = (frame.f_code.co_filename for frame, _ in frames)
    return isinstance(error, SyntaxError) or any(not name.startswith(_LIBRARIES) for name in names)


def _is_of_host(filename: str) -> bool:
    return filename.startswith(("<tower-dspy>", "<frozen ")) or filename == importlib.__file__


def _text(name: str, read: Callable[[], str]) -> str:
    """A text of an error, whose failing `__str__` must not hide the error itself."""
    try:
        return read()
    except Exception as failed:
        return f"(its {name} could not be read: {type(failed).__name__})"


def _lm_failures(error: BaseException, depth: int = 0) -> list[Any]:
    """The LM failures that caused `error`; none if anything else contributed to it.

    They are found in groups, as of a TaskGroup, and as causes, by `from`. A `__context__` does not
    count: any bug in an `except` block has one.
    """
    # Here, as this module also describes why DSPy could not be imported.
    from dspy.utils.exceptions import LMError

    if isinstance(error, LMError) or _is_over_budget(error):
        return [error]
    if depth > _DEEPEST:  # causes may form a circle
        return []
    if isinstance(error, BaseExceptionGroup):
        parts = [_lm_failures(part, depth + 1) for part in error.exceptions]
        return [failure for part in parts for failure in part] if all(parts) else []
    return [] if error.__cause__ is None else _lm_failures(error.__cause__, depth + 1)


def _summary(failures: list[Any]) -> dict[str, Any]:
    """One failure for all of them: a retry is worth as much as for the worst of them."""

    def wait(failure: dict[str, Any]) -> tuple[bool, float]:
        after = math.inf if failure["rejected"] else failure["retry_after"] or 0.0
        return failure["over_budget"], after

    return max(map(_lm_failure, failures), key=wait)


def _lm_failure(error: Any) -> dict[str, Any]:
    after = getattr(error, "retry_after", None)
    if not isinstance(after, int | float) or not 0 <= after <= _LONGEST_RETRY_AFTER:
        after = None
    status = status_of(error)
    over_budget = _is_over_budget(error)
    return {
        "status": status,
        "retry_after": None if after is None else float(after),
        "rejected": over_budget or is_rejected(error, status),
        "over_budget": over_budget,
    }


def _is_over_budget(error: BaseException | None) -> bool:
    """Whether an error of DSPy, or of a client, says that a budget of the call is used up."""
    # Here for the same reason.
    from dspy.utils.exceptions import LMError

    is_of_client = type(error).__module__.partition(".")[0] in _CLIENTS
    if not (isinstance(error, LMError | OverBudget) or is_of_client):
        return False
    for _ in range(_DEEPEST):
        if error is None or isinstance(error, OverBudget):
            return error is not None
        # Not all clients name the cause. An LM failure that was handled before is not this one's.
        error = error.__cause__ or error.__context__
        if isinstance(error, LMError):
            return False
    return False


def status_of(error: Any) -> int | None:
    """The status of an LM failure, if the provider answered."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and 100 <= status <= 999:
        return status
    # Some gateways answer 200 and put the real status into the body.
    code = str(getattr(error, "provider_code", None))
    return int(code) if code in _STATUSES else None


def is_rejected(error: Any, status: int | None) -> bool:
    """Whether a retry would fail as well."""
    # Here for the same reason.
    from dspy.utils import exceptions as lm

    # A quota that is used up has the status of a rate limit.
    code = getattr(error, "provider_code", None)
    if isinstance(error, lm.LMBillingError) or code == "billing_hard_limit_reached":
        return True
    if status is not None:
        return 400 <= status < 500 and status not in _RETRYABLE
    return isinstance(
        error,
        lm.LMConfigurationError
        | lm.LMUnsupportedFeatureError
        | lm.LMInvalidRequestError
        | lm.LMAuthError
        | lm.LMCollectionLimitError,
    )


_DEEPEST = 50
# The clients of providers, and what they are built on: their errors may be causes of each other.
_CLIENTS = frozenset({"anthropic", "httpx", "litellm", "openai"})
# Where the files of libraries lie, and how the names of this package and of CPython's own begin.
_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<tower-dspy>",
    "<frozen ",
)
_STATUSES = frozenset(map(str, range(400, 600)))
# Statuses that a retry may get past, as in kind_of_status in failures.rs.
_RETRYABLE = frozenset({408, 409, 425, 429})
