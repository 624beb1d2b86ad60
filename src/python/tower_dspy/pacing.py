"""How many calls may start in one turn of the loop.

Starting hundreds of predictions in one turn holds the loop up until each has built its prompt, so
that a cancel waits behind them. The allowance shrinks when a turn took longer than the target and
grows while turns are short. Waiting for an LM is not limited: only the starts are.
"""

from __future__ import annotations

import time

TARGET = 0.010  # seconds a turn may take
FIRST, MOST = 8, 1024


class Pacer:
    """The allowance of starts a turn."""

    __slots__ = ("_allowance", "_turn_began")

    def __init__(self) -> None:
        self._allowance = FIRST
        self._turn_began: float | None = None

    def allowance(self) -> int:
        """How many calls may start now."""
        if self._turn_began is not None:
            took = time.monotonic() - self._turn_began
            if took > TARGET:
                self._allowance = max(1, self._allowance // 2)
            elif took < TARGET / 2:
                self._allowance = min(MOST, self._allowance * 2)
            self._turn_began = None
        return self._allowance

    def held_back(self) -> None:
        """Calls are left for the next turn: its start tells how long this one took."""
        self._turn_began = time.monotonic()
