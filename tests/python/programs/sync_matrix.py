"""Sync code that waits: each wait, in each way in which sync code of a program runs.

`Thread.sleep` is the program that sleeps on a thread of its own, for example.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import socket
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import dspy

import processes
from witness import note

Wait = Callable[[str], None]


def sleep(_: str) -> None:
    time.sleep(3600)


def event(_: str) -> None:
    threading.Event().wait()


def queued(_: str) -> None:
    queue.Queue().get()


def receive(_: str) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.recv(1)


def child(key: str) -> None:
    processes.popen(key)


WAITS = (sleep, event, queued, receive, child)


def _noting(wait: Wait) -> Wait:
    def noting(key: str) -> None:
        try:
            note(key, "running")
            wait(key)
            note(key, "went on")
        finally:
            note(key, "ended")

    return noting


def _module(forward: Callable[[str], object]) -> type[dspy.Module]:
    class OnAThread(dspy.Module):
        """Sync code on a thread of the host's."""

        def forward(self, key: str):
            forward(key)
            return {}

    return OnAThread


def _in_parallel(wait: Wait, key: str) -> None:
    dspy.Parallel(num_threads=2)([(_module(wait)(), {"key": key})] * 2)


def _in_own_pool(wait: Wait, key: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(wait, key).result()


def _in_own_thread(wait: Wait, key: str) -> None:
    thread = threading.Thread(target=lambda: wait(key))
    thread.start()
    thread.join()


def _to_thread(wait: Wait) -> Any:
    async def to_thread(key: str):
        await asyncio.to_thread(wait, key)
        return {}

    return to_thread


def _asyncified(wait: Wait) -> Any:
    async def asyncified(key: str):
        await dspy.asyncify(wait)(key)
        return {}

    return asyncified


def _each(way: Callable[[Wait], Any]) -> types.SimpleNamespace:
    return types.SimpleNamespace(**{wait.__name__: way(_noting(wait)) for wait in WAITS})


Host = _each(_module)
ToThread = _each(_to_thread)
Asyncify = _each(_asyncified)
Parallel = _each(lambda wait: _module(lambda key: _in_parallel(wait, key)))
Pool = _each(lambda wait: _module(lambda key: _in_own_pool(wait, key)))
Thread = _each(lambda wait: _module(lambda key: _in_own_thread(wait, key)))
