"""Dry runs of LMs: their requests are made as for a call, and not sent.

A dry run shows where an LM's requests go, and leaves the LM warm: its modules are imported, its
credentials read and its signer loaded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

# Whether this code is a dry run. What sends the requests of LM calls asks, see exchange.py.
IN_DRY_RUN: ContextVar[bool] = ContextVar("tower_dspy_dry_run", default=False)


class NotSent(BaseException):
    """A dry run has come to the request of its LM call. No `except Exception` stops it."""

    def __init__(self, request: Any) -> None:
        super().__init__("a dry run sends nothing")
        self.request = request


@contextmanager
def dry() -> Iterator[None]:
    """Makes the block a dry run: a request is not sent, and ends the block with `NotSent`."""
    token = IN_DRY_RUN.set(True)
    try:
        yield
    finally:
        IN_DRY_RUN.reset(token)


@contextmanager
def unsent() -> Iterator[None]:
    """Makes the block a dry run, which ends quietly where a request would be sent."""
    with suppress(NotSent), dry():
        yield


def requested(call: Callable[[], object]) -> Any:
    """The request of a call of an LM, with `url` and `body`; None if it ends without one."""
    try:
        with dry():
            call()
    except NotSent as not_sent:
        return not_sent.request
    return None
