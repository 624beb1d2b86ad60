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
5. One signal is sent to a run. Other ways of ending it, such as the refusal of an LM call, consume
   that signal, so its clean-up is not cut short.
"""

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress, starmap
from operator import and_, attrgetter, is_, not_
from typing import Any

from tower_dspy.call_state import Cancelled

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in.restype = ctypes.c_int
# The same function, with NULL as the exception: it removes a pending one.
_clear_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class _Here(threading.local):
    """The run on this thread."""

    run: "InterruptibleRun | None" = None


_here = _Here()
# The threads in which nothing may be raised now.
_shielded: set[int] = set()
_signal_of = attrgetter("_signal")
_running_of = attrgetter("_running")


def raise_if(
    thread: int,
    error: type[BaseException],
    read: Callable[[Any], Any],
    of: Any,
    expected: Any,
    note: tuple[Any, str, Any],
) -> bool:
    """Raises `error` in `thread` if `read(of)` is `expected`; `read` has to be written in C.

    `note` is an object, an attribute of it and the value that the attribute gets if it was raised.
    """
    # Before 3.12 the collector may run Python code, and so release the GIL, between the two.
    pauses_gc = sys.version_info < (3, 12) and gc.isenabled()
    if pauses_gc:
        gc.disable()
    try:
        runs = map(is_, map(read, (of,)), (expected,))
        unshielded = map(not_, map(_shielded.__contains__, (thread,)))
        reachable = map(and_, runs, unshielded)
        raised = starmap(_raise_in, compress(((thread, error),), reachable))
        # In the same chain: the thread must not run before it is noted.
        return bool(list(starmap(setattr, compress((note,), raised))))
    finally:
        if pauses_gc:
            gc.enable()


@dataclass(slots=True, eq=False)
class InterruptibleRun:
    """One function on one thread."""

    function: Callable[[], Any] | None
    value: Any = None
    error: BaseException | None = None
    # It is to stop, perhaps before it begins.
    cancelled: bool = False
    _thread: int = 0
    _running: bool = False
    # An interrupt could not be raised, as the thread was shielded.
    _pending: bool = False
    # Whether the one signal may be sent.
    _signal: bool = False

    def execute(self) -> None:
        """Runs the function here and stores its value or its error. Raises nothing."""
        before = _here.run
        self._thread = threading.get_ident()
        _here.run = self
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
                break
            except BaseException as late:
                self.error = self.error or late
        self.function = None
        _here.run = before

    def interrupt(self) -> bool:
        """Raises `Cancelled` in the function, once; returns whether it was raised."""
        self.cancelled = True
        note = (self, "_signal", False)
        return raise_if(self._thread, Cancelled, _signal_of, self, True, note)

    def interrupt_again(self) -> bool:
        """Raises `Cancelled` in the function, whatever was raised before."""
        note = (self, "_pending", False)
        sent = raise_if(self._thread, Cancelled, _running_of, self, True, note)
        if not sent:
            self._pending = True
        return sent

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
    if _here.run is not None:
        _here.run.raise_pending()
    return value


def consume_signal_here() -> None:
    """Consumes the signal of the run on this thread, which is being ended in another way."""
    if _here.run is not None:
        _here.run._signal = False
