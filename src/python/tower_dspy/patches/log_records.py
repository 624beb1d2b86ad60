"""Log records, which go to the host as well as to the handlers that a program configures.

A record has the call in whose task or thread it was made. The host shows it at debug level,
whatever level it has: it may hold a prompt.
"""

import functools
import logging
from typing import Any

from tower_dspy.call_state import current_call
from tower_dspy.interrupt import shielded
from tower_dspy.patches.replace import replace


def install(log: Any) -> None:
    """Installs the patch. `log` takes the level, the logger and the message of each record, and the
    host's side of its call."""
    replace(logging.Logger, "callHandlers", functools.partial(_with_host, HostHandler(log)))


def _with_host(handler: logging.Handler, call_handlers: Any) -> Any:
    # Not by a handler of the root logger: with one, `logging.basicConfig` would do nothing.
    @functools.wraps(call_handlers)
    def callHandlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        handler.handle(record)
        call_handlers(logger, record)

    return callHandlers


class HostHandler(logging.Handler):
    """A handler that passes records to the host."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def handle(self, record: logging.LogRecord) -> Any:
        # A thread that is interrupted in here might keep the handler's lock.
        return shielded(super().handle, record)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            state = current_call()
            call = None if state is None else state.call
            self._log(record.levelno, record.name, self.format(record), call)
        except Exception:
            self.handleError(record)
