"""Looks after the loop from a thread of its own: names what blocks it, and ends it where it may.

Rust judges by the loop's heartbeat whether it is blocked. This thread says by what, as long as it
gets the GIL itself.

A call that blocks the loop cannot hear that it is to stop. If it is over, and still the loop's
current task from one look to the next, its exception is raised in it here; see interrupt.py. That
is the one signal of the call: the loop does not send it again, and it is repeated here only after
a grace, as is one that the loop has sent.

    port.pulse()                           this thread gets the GIL
    port.blocked(frames, program, call)    what the loop is doing, innermost frame first
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from types import BuiltinFunctionType, FrameType
from typing import Any

from tower_dspy.executor import ThreadOfCall
from tower_dspy.interrupt import raise_while
from tower_dspy.pool import GRACE
from tower_dspy.runner import Runner
from tower_dspy.scope import Scope

LATE = 0.060  # seconds without a heartbeat: three are missed
_TICK = 0.020
_FRAMES = 12
# Where the loop is when no callback of anybody's runs.
_IDLE = ("selectors.py:", "tower_dspy/loop.py:", "asyncio/base_events.py:", "asyncio/runners.py:")

# Both are written in C, as raise_while asks for; the function is so from Python 3.12 on.
_current_task = (
    asyncio.current_task
    if isinstance(asyncio.current_task, BuiltinFunctionType)
    else asyncio.tasks._current_tasks.get
)


class Watchdog:
    """Watches one loop. Made on its thread."""

    def __init__(
        self,
        port: Any,
        runner: Runner,
        loop: asyncio.AbstractEventLoop,
        *,
        grace: float = GRACE,
    ) -> None:
        self._port = port
        self._runner = runner
        self._loop = loop
        self._thread = threading.get_ident()
        self._grace = grace
        self._stopped = threading.Event()
        # The task that the last looks found, and since when, or since it was last told.
        self._seen: asyncio.Task | None = None
        self._since = 0.0
        threading.Thread(target=self._watch, name="tower-dspy-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK):
            self._port.pulse()
            if time.monotonic() - self._runner.beaten < LATE:
                self._seen = None
            else:
                # What is looked at goes on meanwhile, and may be gone.
                with contextlib.suppress(Exception):
                    self._look()

    def _look(self) -> None:
        task = _current_task(self._loop)
        scope = None if task is None else self._runner.scope_of(task)
        frames = _frames(sys._current_frames().get(self._thread))
        if task is None and frames and _waits(frames[0]):
            return  # it has nothing to do: the machine is what is late
        program = None if scope is None else self._runner.name_of(scope)
        self._port.blocked(frames, program, None if scope is None else scope.call)
        if task is not self._seen:
            self._seen, self._since = task, time.monotonic()
        elif scope is not None and scope.is_over():
            self._end(task, scope)

    def _end(self, task: asyncio.Task, scope: Scope) -> None:
        now = time.monotonic()
        if (scope.cancelled or task is scope.broken) and now - self._since < self._grace:
            return  # it has had its signal, and may be cleaning up
        # It may be one of these that the loop is held up by.
        for child in tuple(scope.children or ()):
            if isinstance(child, ThreadOfCall):
                child.interrupt()
        if raise_while(self._thread, asyncio.CancelledError, _current_task, self._loop, task):
            scope.broken = task
            self._since = now


def _frames(frame: FrameType | None) -> list[str]:
    found = []
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        found.append(f"{code.co_filename}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return found


def _waits(frame: str) -> bool:
    return any(place in frame for place in _IDLE)
