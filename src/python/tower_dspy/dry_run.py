"""Dry runs of LMs: their requests are made as for a call, and not sent.

A dry run shows where an LM's requests go, and leaves the LM warm: its modules are imported, its
credentials read and its signer loaded.
"""

from collections.abc import Callable
from contextvars import ContextVar

# Whether this code is a dry run. What sends the requests of LM calls asks, see exchange.py.
IN_DRY_RUN: ContextVar[bool] = ContextVar("tower_dspy_dry_run", default=False)


class NotSent(BaseException):
    """A dry run has come to the request of its LM call. No `except Exception` stops it."""

    def __init__(self, url: str) -> None:
        super().__init__("a dry run sends nothing")
        self.url = url


def requested_url(call: Callable[[], object]) -> str | None:
    """The URL that a call of an LM requests; None if it ends without a request."""
    token = IN_DRY_RUN.set(True)
    try:
        call()
    except NotSent as not_sent:
        return not_sent.url
    finally:
        IN_DRY_RUN.reset(token)
    return None
