"""Signals: exceptions that are raised in a thread from another one, and their delivery.

Python delivers such an exception when the thread next runs bytecode, and not while it waits in C
code. Until then the signal is pending, and only then may the wait be ended from outside, see
wait_end.py: after it the thread runs clean-up code, whose waits are its own.

Invariants:
1. A signal is registered, and the place of its thread noted, in the same chain of C functions that
   raises it, see interrupt.raise_if.
2. It is pending no more once the thread has begun to handle it: before a handler runs, Python makes
   the instance of the exception, which removes the signal here.
3. Nor is it pending once the thread has moved on in another way, such as where C code dropped the
   exception: it is then not in the frame and at the instruction where it was when it was signalled.
   The frame is kept for the comparison, or another one could take its identity.
"""

import asyncio
import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, compress, starmap
from operator import attrgetter, call, is_, methodcaller
from types import FrameType
from typing import Any

from tower_dspy.call_state import Cancelled


class _Here(threading.local):
    """The function on this thread that may be signalled, see interrupt.InterruptibleRun."""

    run: Any = None


HERE = _Here()
# By thread. Written by C functions alone, so that no thread runs between a check and the writing.
PENDING: "dict[int, ThreadSignal]" = {}


@dataclass(slots=True, eq=False)
class ThreadSignal:
    """One exception that is raised in a thread."""

    thread: int
    native_id: int
    error: type[BaseException]
    # Where the thread was.
    frame: FrameType | None = None
    _instruction: int = -1
    # What was done to end its wait and has to be undone, on the thread.
    undo: Callable[[], None] | None = None
    # The system call that was looked at: nothing more can be done about that wait.
    seen: Any = None
    # How often the thread was looked at.
    looks: int = 0

    def notes_of_place(self) -> tuple[tuple[Any, ...], ...]:
        """Calls of C functions that note where the thread is."""
        frame = map(methodcaller("get", self.thread), map(call, (sys._current_frames,)))
        known = filter(None, map(attrgetter("frame"), (self,)))
        return (
            (list, map(setattr, (self,), ("frame",), frame)),
            (list, map(setattr, (self,), ("_instruction",), map(attrgetter("f_lasti"), known))),
        )

    def is_pending(self) -> bool:
        """Whether the thread has run no bytecode since it was signalled."""
        frame = self.frame
        return (
            PENDING.get(self.thread) is self
            and frame is not None
            and sys._current_frames().get(self.thread) is frame
            and frame.f_lasti == self._instruction
        )

    def call_if_pending(self, *calls: tuple[Any, ...]) -> bool:
        """Calls functions in C that keep the GIL if the signal is undelivered.

        Each call is a function and its arguments. No bytecode runs between the check and the calls.
        """
        undelivered = map(is_, map(PENDING.get, (self.thread,)), (self,))
        called = starmap(call, chain.from_iterable(compress((calls,), undelivered)))
        return bool(uninterrupted(called))


class Interrupted(Cancelled):
    """The signal of a function on a thread."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        end_signal_here()


class TaskInterrupted(asyncio.CancelledError):
    """The signal of a task that blocks its loop."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        end_signal_here()


# Programs, tracebacks and logs see the exceptions that they stand for.
for _signal, _base in ((Interrupted, Cancelled), (TaskInterrupted, asyncio.CancelledError)):
    _signal.__name__, _signal.__qualname__ = _base.__name__, _base.__qualname__
    _signal.__module__ = _base.__module__


def end_signal_here() -> bool:
    """Marks the signal of this thread as delivered; returns whether one was pending."""
    signal = PENDING.pop(threading.get_ident(), None)
    if signal is not None and signal.undo is not None:
        with suppress(Exception):
            signal.undo()
    return signal is not None


def pending_signals() -> Iterable[ThreadSignal]:
    """The signals of all threads that are not delivered yet."""
    return tuple(PENDING.values())


def uninterrupted(steps: Iterator[Any]) -> list[Any]:
    """Returns the values of an iterator made of C functions, while no other thread runs.

    Before Python 3.12 the garbage collector may run Python code between two of them, and so release
    the GIL. It is turned off and on by C functions of the same chain, so that no other user of it,
    and no signal to this thread, comes in between.
    """
    if sys.version_info >= (3, 12):
        return list(steps)
    was_enabled: list[bool] = []
    values: list[Any] = []
    before = chain(map(was_enabled.append, map(call, (gc.isenabled,))), map(call, (gc.disable,)))
    after = map(call, compress((gc.enable,), was_enabled))
    try:
        deque(chain(before, map(values.append, steps), after), maxlen=0)
    except BaseException:
        if any(was_enabled):
            gc.enable()
        raise
    return values
