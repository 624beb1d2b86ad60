"""The end of the wait of a thread that was signalled.

A signal is delivered when its thread runs bytecode again, so a wait in C code has to return. It is
ended only while the signal is pending, see thread_signal.py, by what ends the wait alone:

- `threading.Condition.wait`, on which `Event`, `Semaphore`, `Barrier`, `queue.Queue` and `Future`
  are built, and the `time.sleep` of patches/sleep.py wait for a private lock: it is released. For
  the condition that is one of the spurious wake-ups that it allows for.
- A selector or a loop waits for an epoll object: a descriptor that is readable is registered there,
  and removed when the thread goes on.
- A connected socket is shut down, if an object to which the waiting code refers has its
  descriptor: a socket, or the client of a library in C, see `_shut_down`.

All other waits stay as they are: that for a lock, which cannot be had without giving the lock away,
that of a server for its next connection, and those for descriptors that no such object has, such as
pipes, files and the sockets inside libraries in C.
"""

import contextlib
import ctypes
import gc
import io
import os
import platform
import select
import socket
import threading
from collections.abc import Callable, Iterator
from types import (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    MethodDescriptorType,
    ModuleType,
)
from typing import Any

from tower_dspy.blocked_thread import BlockedCall, blocked_call
from tower_dspy.patches import sleep
from tower_dspy.thread_signal import ThreadSignal, pending_signals

# These keep the GIL, and do not wait.
_shutdown = ctypes.PyDLL(None).shutdown
_getsockopt = ctypes.PyDLL(None).getsockopt
_epoll_ctl = ctypes.PyDLL(None).epoll_ctl
# Classes of C.
_SOCKET = socket.socket.__base__
_FILE = io.IOBase.__base__
_CONDITION = threading.Condition.wait.__code__
_SLEEP = sleep.wait.__code__
# Where an object is looked for: so many frames, so far from their variables, so many objects, and
# not in containers of more.
_FRAMES, _DEPTH, _MOST_OBJECTS = 4, 3, 400
# Not followed: they lead to everything, or nowhere.
_OPAQUE = (ModuleType, type, FunctionType, BuiltinFunctionType, FrameType, str, bytes, int, float)
_NO_SOCKETS = (_FILE, select.epoll)
_STANDARD = (0, 1, 2)  # input, output and error of the process
_EPOLL_CTL_ADD = 1
_OFTEN, _SELDOM = 100, 50  # looks, and each how many


class _EpollEvent(ctypes.Structure):
    """The kernel's `epoll_event`, which is packed on x86-64 alone."""

    _pack_ = 1 if platform.machine() == "x86_64" else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


def end_waits() -> None:
    """Ends the waits of all threads whose signals are pending. For calls every 20 ms.

    Waits that stay are looked at once a second after the first two.
    """
    for signal in pending_signals():
        signal.looks += 1
        if signal.looks <= _OFTEN or signal.looks % _SELDOM == 0:
            end_wait(signal)


def end_wait(signal: ThreadSignal) -> None:
    """Ends what a signalled thread waits for, if it waits, and if that can be done safely."""
    # The thread, the objects found and this code all run meanwhile.
    with contextlib.suppress(Exception):
        if signal.is_pending():
            _end_wait(signal)


def _end_wait(signal: ThreadSignal) -> None:
    frame = signal.frame
    if frame is None or _release_waiter(signal, frame):
        return
    call = blocked_call(signal.native_id)
    if call is None or call == signal.seen:
        return
    for descriptor in call.descriptors:
        if call.is_epoll:
            _wake_epoll(signal, frame, descriptor)
        elif descriptor not in _STANDARD:
            _end_wait_of_socket(signal, call, frame, descriptor)
    signal.seen = call


def _release_waiter(signal: ThreadSignal, frame: FrameType) -> bool:
    """Releases the private lock that a thread waits for; false if it waits for something else."""
    if frame.f_code not in (_CONDITION, _SLEEP):
        return False
    variables = frame.f_locals
    waiter = variables.get("waiter")
    if waiter is None:
        return True
    condition = variables.get("self")
    if condition is None:
        signal.call_if_pending((waiter.release,))
    elif waiter in condition._waiters:  # else it is notified, or about to wait
        # Both or none: the next `notify` must not be for this thread, and lost, and a waiter that
        # is not among the others is released by nobody.
        signal.call_if_pending((condition._waiters.remove, waiter), (waiter.release,))
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
            signal.call_if_pending((_epoll_ctl, duplicate, *order))


def _end_wait_of_socket(
    signal: ThreadSignal, call: BlockedCall, frame: FrameType, descriptor: int
) -> None:
    for one in _reachable(frame):
        fileno = _fileno_of(type(one))
        # A closed client of C code may raise instead of -1.
        with contextlib.suppress(Exception):
            if fileno is not None and fileno(one) == descriptor:
                with _closing(os.dup(descriptor)) as duplicate:
                    if fileno(one) == descriptor:
                        _shut_down(signal, call, duplicate)
                return


def _fileno_of(kind: type) -> Callable[[Any], int] | None:
    """The method that returns the descriptor of a kind of objects; None if they are no sockets.

    It is C code: that of a program must not run here.
    """
    if issubclass(kind, _SOCKET):
        return _SOCKET.fileno
    if issubclass(kind, _NO_SOCKETS):
        return None
    found = next((vars(base)["fileno"] for base in kind.__mro__ if "fileno" in vars(base)), None)
    return found if type(found) is MethodDescriptorType else None


def _shut_down(signal: ThreadSignal, call: BlockedCall, duplicate: int) -> None:
    """Shuts down the socket that a thread waits for, by a duplicate of its descriptor.

    The thread is in the same wait before and after the duplicate is made, as it has not run, and an
    object to which its code refers has the descriptor after that. So no socket is shut down that
    the code of the call does not hold. A server's socket is left alone: other code may use it.

    What is not seen is that another thread has closed the socket under the waiting one, and that
    its number is now that of another socket to which the waiting code refers, as where a client
    has replaced its connection: then the new one is shut down.
    """
    if (
        _is_socket_but_of_server(duplicate)
        and blocked_call(signal.native_id) == call
        and signal.is_pending()
    ):
        signal.call_if_pending((_shutdown, duplicate, socket.SHUT_RDWR))


def _is_socket_but_of_server(descriptor: int) -> bool:
    accepts = ctypes.c_int()
    size = ctypes.c_uint(ctypes.sizeof(accepts))
    option = (socket.SOL_SOCKET, socket.SO_ACCEPTCONN, ctypes.byref(accepts), ctypes.byref(size))
    # A socket object would make the socket non-blocking where there is a default timeout.
    return _getsockopt(descriptor, *option) == 0 and not accepts.value


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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
