"""A child process of a call, which is ended with a call that the host ends.

It gets SIGTERM and, after a grace, SIGKILL, with its descendants and its process group. It counts
as a child of its call until all of these have ended. A call that ends by itself leaves its
processes alone: they may be there for the next call.
"""

import asyncio
import signal
import threading
from typing import Any

from tower_dspy.call_state import CallState
from tower_dspy.call_work import CallWork
from tower_dspy.process_tree import Process, ProcessTree

# Seconds between two SIGKILLs. What does not end by the first one is of another user, or waits for
# a disk.
_PAUSE = 1.0


class CallProcess(CallWork):
    """A process that a call's code started."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        state: CallState,
        process: Process,
        grace: float,
    ) -> None:
        super().__init__(name, loop)
        self._call = state
        self._process = process
        self._tree = ProcessTree(process)
        self._grace = grace
        # Taken by the one that ends it.
        self._ending = threading.Lock()

    def cancel(self, msg: Any = None) -> bool:
        """Ends the process, once."""
        self.interrupt()
        return False

    def interrupt(self) -> None:
        """Ends the process, once, from any thread."""
        if self._is_left_alone() or not self._ending.acquire(blocking=False):
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
        return self._is_left_alone() or not self._process.runs()

    def kill(self) -> None:
        """Kills the process, and what was told to stop with it, at once."""
        self._tree.kill_known()

    def _is_left_alone(self) -> bool:
        return self._call.closed and not self._call.ended_by_host

    def _end_tree(self) -> None:
        try:
            self._tree.send(signal.SIGTERM)
            if not self._tree.wait(self._grace):
                self._tree.send(signal.SIGKILL)
                while not self._tree.wait(_PAUSE):
                    self._tree.send(signal.SIGKILL)
        finally:
            # Whatever fails: the call would never be settled.
            self.end()


def forget_ended(state: CallState) -> None:
    """Drops the processes of a call that have ended by themselves, with their pidfds."""
    for child in tuple(state.children):
        if isinstance(child, CallProcess) and child.is_over():
            state.children.discard(child)
