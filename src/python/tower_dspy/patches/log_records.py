"""Log records, which go to the host as well as to the handlers that a program configures.

A record has the call in whose task or thread it was made. The host shows it at debug level,
whatever level it has: it may hold a prompt. Where the host's log has no such level, only the
records of this package go there.
"""

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

from tower_dspy.call_state import current_call
from tower_dspy.interrupt import shielded
from tower_dspy.patches.replace import replace


def install(log: Any, is_debugged: Callable[[], bool]) -> None:
    """Installs the patch. `log` takes the level, the logger and the message of each record, and the
    host's side of its call; `is_debugged` returns whether the host's log has the debug level."""
    handler = HostHandler(log, is_debugged)
    replace(logging.Logger, "callHandlers", functools.partial(_with_host, handler))


def _with_host(handler: "HostHandler", call_handlers: Any) -> Any:
    # Not by a handler of the root logger: with one, `logging.basicConfig` would do nothing.
    @functools.wraps(call_handlers)
    def callHandlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if handler.is_wanted(record):
            handler.handle(record)
        call_handlers(logger, record)

    return callHandlers


class HostHandler(logging.Handler):
    """A handler that passes records to the host."""

    def __init__(self, log: Any, is_debugged: Callable[[], bool]) -> None:
        super().__init__()
        self._log = log
        self._is_debugged = is_debugged

    def is_wanted(self, record: logging.LogRecord) -> bool:
        """Whether the host shows the record: its own ones at any level."""
        return record.name.startswith("tower_dspy.") or self._is_debugged()

    def handle(self, record: logging.LogRecord) -> Any:
        # A thread that is interrupted in here might keep the handler's lock.
        return shielded(super().handle, record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            state = current_call()
            call = None if state is None else state.call
            # Of a copy: a record keeps its text, and the program's formatters are to make theirs.
            self._log(record.levelno, record.name, self.format(copy.copy(record)), call)
        except Exception:
            self.handleError(record)
