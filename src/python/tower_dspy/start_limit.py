"""An adaptive limit of the calls that start in one turn of the loop.

Starting hundreds of predictions in one turn blocks the loop until each has built its prompt, and a
cancellation waits for all of them. The limit is halved when a turn took longer than the target and
doubled while turns are short. Calls that wait for an LM do not count.
"""

import time

TARGET = 0.010  # seconds a turn may take
FIRST, MOST = 8, 1024


class StartLimit:
    """The limit of starts a turn."""

    __slots__ = ("_limit", "_turn_began")

    def __init__(self) -> None:
        self._limit = FIRST
        self._turn_began: float | None = None

    def current(self) -> int:
        """The number of calls that may start in this turn."""
        if self._turn_began is not None:
            took = time.monotonic() - self._turn_began
            if took > TARGET:
                self._limit = max(1, self._limit // 2)
            elif took < TARGET / 2:
                self._limit = min(MOST, self._limit * 2)
            self._turn_began = None
        return self._limit

    def defer(self) -> None:
        """Notes that calls wait for the next turn, whose start shows how long this one took."""
        self._turn_began = time.monotonic()
