"""Runs that wait in C code, and what becomes of their waits."""

import contextlib
import ctypes
import datetime
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from conftest import in_call, running

from tower_dspy import thread_signal
from tower_dspy.call_state import Cancelled
from tower_dspy.interrupt import InterruptibleRun
from tower_dspy.wait_end import end_waits

LONG = 30  # seconds: no wait here ends by itself


def until(condition: Callable[[], Any], seconds: float = LONG) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.002)
    return bool(met)


def is_blocked(run: InterruptibleRun) -> bool:
    """Whether the thread is in a system call, and does not wait for the GIL."""
    before = syscall(run)
    if before in ("", "running"):
        return False
    time.sleep(0.02)
    return syscall(run) == before


def syscall(run: InterruptibleRun) -> str:
    if not run._native_id:
        return ""
    with open(f"/proc/self/task/{run._native_id}/syscall") as file:
        return file.read().strip()


@contextlib.contextmanager
def blocked(function: Callable[[], Any]) -> Iterator[InterruptibleRun]:
    """Runs a function of a call on a thread until it waits; then the block; then to its end."""

    def function_of_a_call() -> Any:
        with in_call():
            return function()

    with running(function_of_a_call) as run:
        assert until(lambda: is_blocked(run))
        yield run
        # As the watchdog does.
        until(lambda: end_waits() or not run._running)


def ends(function: Callable[[], Any]) -> InterruptibleRun:
    with blocked(function) as run:
        assert run.interrupt()
    assert isinstance(run.error, Cancelled), run.error
    assert run._thread not in thread_signal.PENDING
    return run


def stays(function: Callable[[], Any], release: Callable[[], Any]) -> None:
    with blocked(function) as run:
        assert run.interrupt()
        for _ in range(5):
            end_waits()
            time.sleep(0.01)
        assert run._running
        release()
    assert isinstance(run.error, Cancelled | None), run.error


class ClientOfC(datetime.date):
    """The client of a library in C: code in C returns its descriptor, and no socket object has it.

    Its date is that number.
    """

    fileno = datetime.date.toordinal

    @classmethod
    def of(cls, connection: socket.socket) -> "ClientOfC":
        return cls.fromordinal(connection.detach())


def c_recv(descriptor: int) -> int:
    """A wait of a library in C, of which Python knows no more than the number."""
    return ctypes.CDLL(None).recv(descriptor, ctypes.create_string_buffer(1), 1, 0)


def c_poll(descriptor: int) -> int:
    array = (ctypes.c_int * 2)(descriptor, select.POLLIN)
    return ctypes.CDLL(None).poll(array, ctypes.c_ulong(1), LONG * 1000)
