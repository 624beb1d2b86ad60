"""Stopping code on a thread: an exception is raised in it, and never in what comes after it.

Python lets a thread raise an exception in another one. Aimed at a thread alone it may hit whatever
that thread does next, such as another call, so each is aimed at a stint: one piece of work on one
thread. The look at what the thread does and the raising are one chain of C functions: no bytecode
runs between them, so the GIL stays here and the other thread where it is.

Invariants:
1. A stint is open to interruption only while its function runs; what was raised too late to reach
   it is taken back before the thread goes on.
2. Nothing is raised in a thread that is starting another: before Python 3.12 the newborn goes by
   the name of the thread that makes it until it runs, and would be hit in its place.
3. Nothing is raised in a thread that imports a module: half imported, a library stays broken for
   all later calls of the process.
4. One signal is sent for a stint. Whoever ends it otherwise, such as an LM call that was refused,
   has used that signal up, so its clean-up is not cut short.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import sys
import threading
from collections.abc import Callable
from itertools import compress, starmap
from operator import and_, attrgetter, is_, not_
from typing import Any

from tower_dspy.patches.replace import replace
from tower_dspy.scope import Cancelled

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in.restype = ctypes.c_int
# The same function, as one that takes NULL: it forgets what was to be raised.
_forget_in = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)

_here = threading.local()
# The threads that are starting another one, or import a module.
_shielded: set[int] = set()
_signal_of = attrgetter("_signal")
_running_of = attrgetter("_running")


def raise_while(
    thread: int, error: type[BaseException], read: Callable[[Any], Any], of: Any, expected: Any
) -> bool:
    """Raises `error` in `thread` if `read(of)` is `expected`; `read` has to be written in C."""
    # Before 3.12 the collector may run Python code, and so hand the GIL over, between the two.
    collects = sys.version_info < (3, 12) and gc.isenabled()
    if collects:
        gc.disable()
    try:
        there = map(is_, map(read, (of,)), (expected,))
        alone = map(not_, map(_shielded.__contains__, (thread,)))
        there = map(and_, there, alone)
        return bool(sum(starmap(_raise_in, compress(((thread, error),), there))))
    finally:
        if collects:
            gc.enable()


class Stint:
    """One piece of work on one thread."""

    __slots__ = (
        "_owed",
        "_running",
        "_signal",
        "_thread",
        "cancelled",
        "error",
        "function",
        "value",
    )

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.value: Any = None
        self.error: BaseException | None = None
        # Told to stop, perhaps before it began.
        self.cancelled = False
        self._thread = 0
        self._running = False
        # It was to be told again while it could not be reached.
        self._owed = False
        # Whether the one signal may be sent.
        self._signal = False

    def run(self) -> None:
        """Runs the function here and keeps what came of it. Raises nothing."""
        before = getattr(_here, "stint", None)
        self._thread = threading.get_ident()
        _here.stint = self
        try:
            self._running = self._signal = True
            if self.cancelled:
                self.spend_signal()
                raise Cancelled("cancelled before it began")
            self.value = self.function()
        except BaseException as error:
            self.error = error
        while True:
            try:
                self._running = self._signal = False
                _forget_in(self._thread, None)
                break
            except BaseException as late:
                self.error = self.error or late
        self.function = None
        _here.stint = before

    def interrupt(self) -> bool:
        """Raises `Cancelled` in the function, the first time; false if it is not to be reached."""
        self.cancelled = True
        sent = raise_while(self._thread, Cancelled, _signal_of, self, True)
        if sent:
            self.spend_signal()
        return sent

    def insist(self) -> bool:
        """Raises `Cancelled` in the function, whatever was sent before."""
        sent = raise_while(self._thread, Cancelled, _running_of, self, True)
        self._owed = not sent
        return sent

    def pay(self) -> None:
        """Raises here what could not be raised from elsewhere, if anything."""
        if self._running and (self._owed or (self.cancelled and self._signal)):
            self._owed = False
            self.spend_signal()
            raise Cancelled

    def spend_signal(self) -> None:
        """Another way of ending the function is being taken."""
        self._signal = False


def start_thread(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    """Starts a thread, during which nothing is raised in this one."""
    _shield(start, thread)


def shield_imports() -> None:
    """Has nothing raised in a thread that imports a module."""
    # All imports of what is not there yet come here.
    replace(importlib._bootstrap, "_find_and_load", lambda find: functools.partial(_shield, find))


def _shield(function: Callable[..., Any], *args: Any) -> Any:
    here = threading.get_ident()
    if here in _shielded:
        return function(*args)
    try:
        _shielded.add(here)
        value = function(*args)
    finally:
        _shielded.discard(here)
    stint = getattr(_here, "stint", None)
    if stint is not None:
        stint.pay()
    return value


def spend_signal_here() -> None:
    """The code on this thread is being ended: nothing is to be raised in it besides."""
    stint = getattr(_here, "stint", None)
    if stint is not None:
        stint.spend_signal()
