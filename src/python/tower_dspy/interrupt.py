"""Interruptible runs: functions on threads that are stopped by an exception raised in them.

Python lets a thread raise an exception in another one. The target is a thread, so an exception that
is raised too late would hit the next work of that thread, such as another call. Each exception is
therefore raised in a run: one function on one thread. The check of what the thread runs and the
raising are one chain of C functions: no bytecode runs between them, so the GIL stays here and the
other thread where it is.

Invariants:
1. A run is open to interruption only while its function runs; an exception that was raised too late
   to reach it is removed before the thread goes on.
2. Nothing is raised in a thread that is starting another: before Python 3.12 the new thread has the
   identity of the thread that starts it until it runs, and would be hit instead.
3. Nothing is raised in a thread that imports a module: half imported, a library stays broken for
   all later calls of the process.
4. Nothing is raised in a thread that is changing what all calls share, such as the frames on the
   socket of a worker: what it had read or was to send would be lost.
5. What is raised is a signal, see thread_signal.py. While it is pending, the wait of the thread is
   ended, see wait_end.py.
6. One signal is sent to a run. Other ways of ending it, such as the refusal of an LM call, consume
   that signal, so its clean-up is not cut short.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, compress, starmap
from operator import and_, attrgetter, call, is_, not_, setitem
from typing import Any

from tower_dspy.call_state import Cancelled
from tower_dspy.thread_signal import (
    HERE,
    PENDING,
    Interrupted,
    ThreadSignal,
    end_signal_here,
    uninterrupted,
)
from tower_dspy.wait_end import end_wait

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in.restype = ctypes.c_int
# The same function, with NULL as the exception: it removes a pending one.
_clear_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


# The threads in which nothing may be raised now.
_shielded: set[int] = set()
_signal_of = attrgetter("_signal")
_running_of = attrgetter("_running")


def raise_if(
    signal: ThreadSignal,
    read: Callable[[Any], Any],
    of: Any,
    expected: Any,
    note: tuple[Any, str, Any],
) -> bool:
    """Raises a signal in its thread if `read(of)` is `expected`; `read` has to be written in C.

    `note` is an object, an attribute of it and the value that the attribute gets if it was raised.
    The wait of the thread is ended.
    """
    thread = signal.thread
    notes = ((setattr, *note), (setitem, PENDING, thread, signal), *signal.notes_of_place())
    runs = map(is_, map(read, (of,)), (expected,))
    unshielded = map(not_, map(_shielded.__contains__, (thread,)))
    reachable = map(and_, runs, unshielded)
    raised = starmap(_raise_in, compress(((thread, signal.error),), reachable))
    # In the same chain: the thread must not run before it is noted.
    noted = starmap(call, chain.from_iterable(compress((notes,), raised)))
    if not uninterrupted(noted):
        return False
    end_wait(signal)
    return True


@dataclass(slots=True, eq=False)
class InterruptibleRun:
    """One function on one thread."""

    function: Callable[[], Any] | None
    value: Any = None
    error: BaseException | None = None
    # It is to stop, perhaps before it begins.
    cancelled: bool = False
    _thread: int = 0
    _native_id: int = 0
    _running: bool = False
    # An interrupt could not be raised, as the thread was shielded.
    _pending: bool = False
    # Whether the one signal may be sent.
    _signal: bool = False

    def execute(self) -> None:
        """Runs the function here and stores its value or its error. Raises nothing."""
        before = HERE.run
        self._thread = threading.get_ident()
        self._native_id = threading.get_native_id()
        HERE.run = self
        try:
            self._running = self._signal = True
            if self.cancelled:
                self._signal = False
                raise Cancelled("cancelled before it began")
            self.value = self.function()
        except BaseException as error:
            self.error = error
        while True:
            try:
                self._running = self._signal = False
                _clear_in(self._thread, None)
                undelivered = end_signal_here()
                if undelivered and not isinstance(self.error, Cancelled | None):
                    # Its wait was ended, and failed with an error of its own.
                    self.error = Cancelled().with_traceback(self.error.__traceback__)
                if undelivered and before is not None and not self.cancelled:
                    # It was the signal of the run around this one.
                    before._pending = True
                break
            except BaseException as late:
                self.error = self.error or late
        self.function = None
        HERE.run = before

    def interrupt(self) -> bool:
        """Raises `Cancelled` in the function, once; returns whether it was raised."""
        self.cancelled = True
        note = (self, "_signal", False)
        return raise_if(self._new_signal(), _signal_of, self, True, note)

    def interrupt_again(self) -> bool:
        """Raises `Cancelled` in the function, whatever was raised before."""
        note = (self, "_pending", False)
        sent = raise_if(self._new_signal(), _running_of, self, True, note)
        if not sent:
            self._pending = True
        return sent

    def _new_signal(self) -> ThreadSignal:
        return ThreadSignal(self._thread, self._native_id, Interrupted)

    def has_raised(self) -> bool:
        """Whether its code has had its signal, and so is clean-up."""
        return self._running and not self._signal and not self._pending

    def raise_pending(self) -> None:
        """Raises here, on the run's thread, an interrupt that could not be raised from another."""
        if self._running and (self._pending or (self.cancelled and self._signal)):
            self._pending = False
            self._signal = False
            raise Cancelled


def shielded(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function during which nothing is raised in this thread."""
    here = threading.get_ident()
    if here in _shielded:
        return function(*args)
    try:
        _shielded.add(here)
        value = function(*args)
    finally:
        _shielded.discard(here)
    if HERE.run is not None:
        HERE.run.raise_pending()
    return value


def shield_here() -> None:
    """Raises a pending signal in this thread, and lets no other be raised until `unshield_here`.

    Python raises a pending exception at the start of a Python function, and this is one.
    """
    end_signal_here()
    _shielded.add(threading.get_ident())


def unshield_here() -> None:
    """Lets signals be raised in this thread again."""
    _shielded.discard(threading.get_ident())


def raise_pending_here() -> None:
    """Raises the interrupt that a shield keeps from this thread, before it starts other work.

    The work would not be told: it was not part of the call yet when that was cancelled.
    """
    if HERE.run is not None:
        HERE.run.raise_pending()


def is_clean_up_here() -> bool:
    """Whether this thread's code has had its signal, and so is clean-up."""
    return HERE.run is not None and HERE.run.has_raised()


def consume_signal_here() -> None:
    """Consumes the signal of the run on this thread, which is being ended in another way."""
    if HERE.run is not None:
        HERE.run._signal = False
