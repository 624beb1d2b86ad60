"""What programs under test saw, for the tests to read, and gates for the tests to open."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading

_seen: dict[str, list[str]] = {}
_gates: dict[str, asyncio.Event] = {}
_thread_gates: dict[str, threading.Event] = {}

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


def thread_gate(key: str) -> threading.Event:
    """The gate of that name for threads."""
    return _thread_gates.setdefault(key, threading.Event())


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
