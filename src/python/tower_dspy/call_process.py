"""A child process of a call, which is ended with a call that the host ends.

It gets SIGTERM and, after a grace, SIGKILL, with its descendants and its process group. It counts
as a child of its call until all of these have ended. A call that ends by itself leaves its
processes alone: they may be there for the next call.
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from tower_dspy.call_state import CallState
from tower_dspy.call_work import CallWork
from tower_dspy.process_tree import Process, ProcessTree

_log = logging.getLogger("tower_dspy.program")

# Seconds between the first two SIGKILLs, which double up to the longest. What does not end by the
# first one is of another user, or waits for a disk.
_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class CallProcess(CallWork):
    """A process that a call's code started."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        state: CallState,
        process: Process,
        grace: float,
        reap: Callable[[], Any],
    ) -> None:
        super().__init__(name, loop)
        self._call = state
        # Whether clean-up code started the process, which is then told to stop after its grace.
        self.of_clean_up = False
        # What reaps the process at its end, as long as its code has no object of it.
        self.reap: Callable[[], Any] | None = reap
        self._tree = ProcessTree(process)
        self._grace = grace
        # Held once the process is being ended.
        self._ending = threading.Lock()

    def cancel(self, msg: Any = None) -> bool:
        """Ends the process, once."""
        self.interrupt()
        return False

    def interrupt(self) -> None:
        """Ends the process, once, from any thread."""
        if self._is_left_alone() or not self._ending.acquire(blocking=False):
            return
        if not self._tree.runs():
            self.end()
            return
        # On a thread: the loop may be held up by code that waits for the process.
        thread = threading.Thread(target=self._end_tree, name="tower-dspy-process", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._tree.send(signal.SIGKILL)
            self.end()

    def is_over(self) -> bool:
        """Whether the process is no longer part of its call."""
        if self._ending.locked():
            return self.over
        return self._is_left_alone() or not self._tree.runs()

    def end(self) -> None:
        """Marks the process as over, from any thread."""
        if self.reap is not None:
            with contextlib.suppress(Exception):
                self.reap()
        super().end()

    def kill(self) -> None:
        """Kills the process, and what was told to stop with it, at once."""
        self._tree.kill_known()

    def _is_left_alone(self) -> bool:
        return self._call.closed and not self._call.ended_by_host

    def _end_tree(self) -> None:
        try:
            self._tree.send(signal.SIGTERM)
            if not self._tree.wait(self._grace):
                self._kill()
        finally:
            # Whatever fails: the call would never be settled.
            self.end()

    def _kill(self) -> None:
        pause = _PAUSE
        self._tree.send(signal.SIGKILL)
        while not self._tree.wait(pause):
            if pause == _PAUSE:
                _log.warning("%s does not end by SIGKILL; its call waits for it", self.name)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._tree.send(signal.SIGKILL)


def forget_ended(state: CallState) -> None:
    """Drops the processes of a call that have ended by themselves, with their pidfds."""
    for child in tuple(state.children):
        if isinstance(child, CallProcess) and child.is_over():
            state.children.discard(child)
