"""The watchdog: a thread that reports the code that blocks the loop, and interrupts it.

The host sees by the loop's heartbeat whether it is blocked. This thread reports by which code, as
long as it gets the GIL.

A call that blocks the loop cannot be cancelled by it. If the call is over and still the loop's
current task from one check to the next, `CancelledError` is raised in it here; see interrupt.py.
That is the one signal of the call: the loop does not send it again. It is repeated here after a
grace, as is a signal that the loop has sent.

At each tick the waits of threads whose signals are still pending are ended; see wait_end.py.

    host.pulse()                           this thread gets the GIL
    host.blocked(frames, program, call)    the frames of the blocked loop, innermost first
"""

import asyncio
import contextlib
import sys
import threading
import time
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FrameType
from typing import Any

from tower_dspy.call_process import CallProcess
from tower_dspy.call_state import CallState
from tower_dspy.call_work import CallWork
from tower_dspy.interrupt import raise_if
from tower_dspy.patches import sleep
from tower_dspy.pool import GRACE
from tower_dspy.runner import Runner
from tower_dspy.thread_signal import TaskInterrupted, ThreadSignal
from tower_dspy.wait_end import end_waits

LATE = 0.060  # seconds without a heartbeat: three are missed
# The same while a thread imports a package, which holds the GIL for a tenth of a second at times.
LATE_WHILE_LOADING = 1.0
_TICK = 0.020
_FRAMES = 12
# Its frames stand for the code that sleeps.
_SLEEP = sleep.wait.__code__.co_filename
# The frames of a loop that runs no callback.
_IDLE = ("selectors.py:", "tower_dspy/loop.py:", "asyncio/base_events.py:", "asyncio/runners.py:")

# Both are written in C, as raise_if asks for; the function is so from Python 3.12 on.
_current_task = (
    asyncio.current_task
    if isinstance(asyncio.current_task, BuiltinFunctionType)
    else asyncio.tasks._current_tasks.get
)


@dataclass(eq=False)
class Watchdog:
    """The watchdog of one loop, created on the loop's thread."""

    host: Any
    runner: Runner
    loop: asyncio.AbstractEventLoop
    grace: float = GRACE
    _thread: int = field(default_factory=threading.get_ident)
    _native_id: int = field(default_factory=threading.get_native_id)
    _stopped: bool = False
    # The task that blocks the loop, and since when, or when it was last interrupted.
    _seen: asyncio.Task | None = None
    _since: float = 0.0

    def __post_init__(self) -> None:
        # Known to run from now on: the first call may hold the GIL before the thread's first pulse.
        self.host.pulse()
        threading.Thread(target=self._watch, name="tower-dspy-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped = True

    def _watch(self) -> None:
        while True:
            time.sleep(_TICK)  # an Event's wait takes three times the CPU
            if self._stopped:
                return
            self.host.pulse()
            end_waits()
            if time.monotonic() - self.runner.beaten < LATE:
                self._seen = None
            else:
                # The task runs meanwhile, and may have ended.
                with contextlib.suppress(Exception):
                    self._check()

    def _check(self) -> None:
        task = _current_task(self.loop)
        state = None if task is None else self.runner.call_of(task)
        frames = _frames(sys._current_frames().get(self._thread))
        if task is None and frames and any(place in frames[0] for place in _IDLE):
            return  # the loop is idle: this machine is late
        if task is None and self.runner.is_loading_on_thread():
            late = time.monotonic() - self.runner.beaten
            if late < LATE_WHILE_LOADING:
                return
        program, call = (None, None) if state is None else (state.program, state.call)
        self.host.blocked(frames, program, call)
        if task is not self._seen:
            self._seen, self._since = task, time.monotonic()
        elif state is not None and state.is_over():
            self._interrupt(task, state)

    def _interrupt(self, task: asyncio.Task, state: CallState) -> None:
        now = time.monotonic()
        if (state.cancelled or task is state.interrupted_task) and now - self._since < self.grace:
            return  # it was signalled, and may be cleaning up
        # The loop may be blocked by waiting for one of these.
        works = [child for child in tuple(state.children) if isinstance(child, CallWork)]
        for work in works:
            if not isinstance(work, CallProcess):
                work.interrupt()
        note = (state, "interrupted_task", task)
        signal = ThreadSignal(self._thread, self._native_id, TaskInterrupted)
        if raise_if(signal, _current_task, self.loop, task, note):
            self._since = now
        # Last: code that waits for a process is signalled before that ends.
        for work in works:
            if isinstance(work, CallProcess):
                work.interrupt()


def _frames(frame: FrameType | None) -> list[str]:
    found = []
    while frame is not None and frame.f_code.co_filename == _SLEEP:
        frame = frame.f_back
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        found.append(f"{code.co_filename}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return found
