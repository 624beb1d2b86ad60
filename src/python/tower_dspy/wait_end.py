"""The end of the wait of a thread that was signalled.

A signal is delivered when its thread runs bytecode again, so a wait in C code has to return. It is
ended only while the signal is pending, see thread_signal.py, by what ends the wait alone:

- `threading.Condition.wait`, on which `Event`, `Semaphore`, `Barrier`, `queue.Queue` and `Future`
  are built, and the `time.sleep` of patches/sleep.py wait for a private lock: it is released. For
  the condition that is one of the spurious wake-ups that it allows for.
- A selector or a loop waits for an epoll object: a descriptor that is readable is registered there,
  and removed when the thread goes on.
- A socket is shut down. Which one it is has to be certain, as a descriptor that was closed is soon
  another's: see `_shut_down`. Those of C code are looked for by the watchdog alone, for all threads
  at once, as that takes a look at all objects.

All other waits stay as they are: that for a lock, which cannot be had without giving the lock away,
and reads of pipes and files.
"""

import contextlib
import ctypes
import gc
import io
import os
import platform
import select
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

from tower_dspy.blocked_thread import BlockedCall, blocked_call
from tower_dspy.patches import sleep
from tower_dspy.thread_signal import ThreadSignal, pending_signals

# These keep the GIL, and do not wait.
_shutdown = ctypes.PyDLL(None).shutdown
_epoll_ctl = ctypes.PyDLL(None).epoll_ctl
_SOCKET = socket.socket.__base__  # the C class
_CONDITION = threading.Condition.wait.__code__
_SLEEP = sleep.wait.__code__
# Where an object is looked for: so many frames, so far from their variables, so many objects, and
# not in containers of more.
_FRAMES, _DEPTH, _MOST_OBJECTS = 4, 3, 400
# Not followed: they lead to everything, or nowhere.
_OPAQUE = (ModuleType, type, FunctionType, BuiltinFunctionType, FrameType, str, bytes, int, float)


_EPOLL_CTL_ADD = 1


class _EpollEvent(ctypes.Structure):
    """The kernel's `epoll_event`, which is packed on x86-64 alone."""

    _pack_ = 1 if platform.machine() == "x86_64" else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


def end_waits() -> None:
    """Ends the waits of all threads whose signals are pending."""
    of_c: list[_SocketOfC] = []
    for signal in pending_signals():
        end_wait(signal, of_c)
    if of_c:
        owned = _owned_descriptors()
        for one in of_c:
            with contextlib.suppress(Exception), _closing(one.duplicate):
                if one.descriptor not in owned:
                    _shut_down(one.signal, one.call, one.duplicate)


def end_wait(signal: ThreadSignal, of_c: "list[_SocketOfC] | None" = None) -> None:
    """Ends what a signalled thread waits for, if it waits, and if that can be done safely.

    Not ended are waits for sockets of C code, which are added to the list.
    """
    # The thread, the objects found and this code all run meanwhile.
    with contextlib.suppress(Exception):
        if signal.is_pending():
            _end_wait(signal, of_c)


def _end_wait(signal: ThreadSignal, of_c: "list[_SocketOfC] | None") -> None:
    frame = signal.frame
    if frame is None or _release_waiter(signal, frame):
        return
    call = blocked_call(signal.native_id)
    if call is None:
        return
    for descriptor in call.descriptors:
        if call.is_epoll:
            _wake_epoll(signal, frame, descriptor)
            continue
        owner = _owner(frame, descriptor)
        if owner is not None:
            with _closing(os.dup(descriptor)) as duplicate:
                if owner.fileno() == descriptor:
                    _shut_down(signal, call, duplicate)
        elif of_c is not None:
            of_c.append(_SocketOfC(signal, call, descriptor, os.dup(descriptor)))


def _release_waiter(signal: ThreadSignal, frame: FrameType) -> bool:
    if frame.f_code not in (_CONDITION, _SLEEP):
        return False
    variables = frame.f_locals
    waiter = variables.get("waiter")
    if waiter is None:
        return True
    condition = variables.get("self")
    if condition is not None:
        try:
            # Or the next `notify` would be for this thread, and lost.
            condition._waiters.remove(waiter)
        except ValueError:
            return True  # notified, or about to wait
    signal.call_if_pending(waiter.release)
    return True


def _wake_epoll(signal: ThreadSignal, frame: FrameType, descriptor: int) -> None:
    epolls = (one for one in _reachable(frame) if issubclass(type(one), select.epoll))
    epoll = next((one for one in epolls if not one.closed and one.fileno() == descriptor), None)
    if epoll is None or signal.undo is not None:
        return
    # Once: a loop that goes on before it is removed is not kept busy.
    events = select.EPOLLIN | select.EPOLLONESHOT
    readable = io.FileIO(os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
    # A closed descriptor is removed from an epoll object by that.
    signal.undo = readable.close
    event = _EpollEvent(events, readable.fileno())
    with _closing(os.dup(descriptor)) as duplicate:
        if not epoll.closed and epoll.fileno() == descriptor:
            order = (_EPOLL_CTL_ADD, readable.fileno(), ctypes.byref(event))
            signal.call_if_pending(_epoll_ctl, duplicate, *order)


@dataclass(slots=True, eq=False)
class _SocketOfC:
    """A socket that a thread waits for and that no object near its code is."""

    signal: ThreadSignal
    call: BlockedCall
    descriptor: int
    duplicate: int


def _shut_down(signal: ThreadSignal, call: BlockedCall, duplicate: int) -> None:
    """Shuts down the socket that a thread waits for, by a duplicate of its descriptor.

    It is the right one:

    1. The thread is in the same wait before and after the duplicate is made, as it has not run.
    2. A socket object that the thread's code refers to has the descriptor after that. An object
       that was closed never gets its number back, so it had it before.
    3. Or no object of Python's has it, and it is the socket of C code.

    What is not seen is that the descriptor was closed under the waiting thread, and its number is
    now that of an object which another thread put in the place of the closed one, or of the socket
    of other C code: the rules of such libraries forbid it.
    """
    if (
        stat.S_ISSOCK(os.fstat(duplicate).st_mode)
        and blocked_call(signal.native_id) == call
        and signal.is_pending()
    ):
        signal.call_if_pending(_shutdown, duplicate, socket.SHUT_RDWR)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _owner(frame: FrameType, descriptor: int) -> Any:
    """The socket object near the frame that has a descriptor, or a closed one, which may have had.

    The nearest decides.
    """
    for found in _reachable(frame):
        if issubclass(type(found), _SOCKET) and found.fileno() in (descriptor, -1):
            return found
    return None


def _owned_descriptors() -> set[int]:
    """The descriptors of all socket objects of the process."""
    # In C, as there are tens of thousands of objects.
    objects = gc.get_objects()
    sockets = {kind for kind in set(map(type, objects)) if issubclass(kind, _SOCKET)}
    found = compress(objects, map(sockets.__contains__, map(type, objects)))
    return {one.fileno() for one in found}


def _reachable(frame: FrameType) -> Iterator[Any]:
    """The objects that the innermost frames refer to, the nearest first."""
    seen: set[int] = set()
    level: list[Any] = []
    at: FrameType | None = frame
    for _ in range(_FRAMES):
        if at is None:
            break
        level += at.f_locals.values()
        at = at.f_back
    for _ in range(_DEPTH):
        below = []
        for one in level:
            # Not by isinstance, which asks objects that stand for others.
            kind = type(one)
            if id(one) in seen or issubclass(kind, _OPAQUE):
                continue
            seen.add(id(one))
            yield one
            if len(seen) > _MOST_OBJECTS:
                return
            large = issubclass(kind, list | tuple | dict | set) and len(one) > _MOST_OBJECTS
            if not (large or issubclass(kind, _SOCKET)):
                below += gc.get_referents(one)
        level = below
