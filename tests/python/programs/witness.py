"""What programs under test saw, for the tests to read, and gates for the tests to open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from functools import partial
from itertools import compress, starmap
from operator import call

_seen: dict[str, list[str]] = {}
_gates: dict[str, asyncio.Event] = {}
_thread_gates: dict[str, ThreadGate] = {}

# Where the LM of programs that bring their own is; set by the tests before they load those.
lm_url = ""


def note(key: str, event: str) -> None:
    """Keeps an event for the test that uses `key`."""
    _seen.setdefault(key, []).append(event)


async def gate(key: str) -> None:
    """Waits until the test opens the gate."""
    await _gates.setdefault(key, asyncio.Event()).wait()


async def clean_up(key: str) -> None:
    """Notes a clean-up that lasts as long as the gate is shut, or that is cut short."""
    note(key, "cleaning")
    try:
        await gate(key)
    except asyncio.CancelledError:
        note(key, "cut short")
        raise
    note(key, "cleaned")


class ThreadGate:
    """A gate for threads. A wait for a lock is one that the host does not end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float = -1) -> bool:
        """Waits until the gate is open; returns whether it is."""
        # One chain of C functions: an interrupt in between would shut the gate for ever.
        acquired = map(self._lock.acquire, (True,), (seconds,))
        return bool(list(starmap(self._lock.release, compress(((),), acquired))))

    def note_and_wait(self, key: str, event: str) -> None:
        """Notes an event and waits, with no step in between that an interrupt could end."""
        # The limit is longer than any test waits. It ends the thread after a test that failed.
        acquire = partial(self._lock.acquire, True, 60)
        steps = (partial(_seen.setdefault(key, []).append, event), acquire)
        _, is_open = map(call, steps)
        if is_open:
            self._lock.release()

    def is_set(self) -> bool:
        return not self._lock.locked()

    def set(self) -> None:
        """Opens the gate."""
        with contextlib.suppress(RuntimeError):  # it is open
            self._lock.release()


def thread_gate(key: str) -> ThreadGate:
    """The gate of that name for threads."""
    return _thread_gates.setdefault(key, ThreadGate())


def open_thread_gate(key: str) -> None:
    """For the tests: lets through the threads that wait, now and later."""
    thread_gate(key).set()


async def seen(key: str) -> list[str]:
    """For the tests: the events so far."""
    return _seen.get(key, [])


async def open_gate(key: str) -> None:
    """For the tests: lets through everyone who waits, now and later."""
    _gates.setdefault(key, asyncio.Event()).set()


async def tasks() -> int:
    """For the tests: how many tasks the loop has, this one included."""
    return len(asyncio.all_tasks())


async def loaded(module: str) -> bool:
    """For the tests: whether a module has been imported."""
    return module in sys.modules


async def use_lm(url: str) -> None:
    """For the tests: where the LM is."""
    global lm_url
    lm_url = url


def hold_gil(port: int) -> None:
    """Holds the GIL in a C call until the test's listener at `port` writes or closes."""
    import ctypes

    libc = ctypes.PyDLL(None)  # unlike CDLL it keeps the GIL
    with socket.create_connection(("127.0.0.1", port)) as peer:
        libc.recv(peer.fileno(), ctypes.create_string_buffer(1), 1, 0)
