"""Sync code that waits, in each way that the host ends, and in each place where sync code runs.

Each wait is a function of the port of the test's listener, which never says anything. `Loop.<name>`
runs it on the loop, `Sync.<name>` on a thread of the host's, and the others on other threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import datetime
import http.client
import queue
import select
import selectors
import socket
import ssl
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import dspy

from witness import note

LONG = 3600


def connect(port: int, limit: float | None = None) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), limit)


def sleeps(port: int) -> None:
    connect(port)
    time.sleep(LONG)


def event(port: int) -> None:
    connect(port)
    threading.Event().wait()


def queued(port: int) -> None:
    connect(port)
    queue.Queue().get(timeout=LONG)


def future(port: int) -> None:
    connect(port)
    concurrent.futures.Future().result()


def receives(port: int) -> None:
    _receive(connect(port))


def _receive(connection: socket.socket) -> None:
    connection.recv(1)


def receives_with_a_limit(port: int) -> None:
    _receive(connect(port, LONG))


def asks_http(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    client.request("GET", "/")
    client.getresponse()


def shakes_hands(port: int) -> None:
    ssl.create_default_context().wrap_socket(connect(port), server_hostname="localhost")


def polls(port: int) -> None:
    connection = connect(port)
    select.select([connection], [], [])


def selects(port: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(connect(port), selectors.EVENT_READ)
        selector.select()


def sends(port: int) -> None:
    """The end of this wait is an error."""
    _send(connect(port))


def _send(connection: socket.socket) -> None:
    connection.sendall(bytes(100 << 20))


class ClientOfC(datetime.date):
    """The client of a library in C: code in C returns its descriptor, and no socket object has it.

    Its date is that number.
    """

    fileno = datetime.date.toordinal


def in_c(port: int) -> None:
    """As a library in C waits for its own socket."""
    client = ClientOfC.fromordinal(connect(port).detach())
    ctypes.CDLL(None).recv(client.fileno(), ctypes.create_string_buffer(1), 1, 0)


def runs_a_loop(port: int) -> None:
    async def waits() -> None:
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()

    asyncio.run(waits())


WAITS = (sleeps, event, queued, future, receives, receives_with_a_limit, asks_http, shakes_hands)
WAITS += (polls, selects, sends, in_c, runs_a_loop)


def _noting(wait: Callable[[int], None]) -> Callable[[str, int], None]:
    def run(key: str, port: int) -> None:
        try:
            wait(port)
            note(key, "went on")
        except Exception as error:
            note(key, f"saw {error!r}")
        finally:
            time.sleep(0.01)
            note(key, "cleaned")

    return run


def _on_loop(run: Callable[[str, int], None]) -> Callable[..., Any]:
    async def on_loop(key: str, port: int):
        run(key, port)
        return {}

    return on_loop


def _sync(run: Callable[[str, int], None]) -> type[dspy.Module]:
    class Waits(dspy.Module):
        def forward(self, key: str, port: int):
            run(key, port)
            return {}

    return Waits


def _asyncified(run: Callable[[str, int], None]) -> Callable[..., Any]:
    async def asyncified(key: str, port: int):
        await dspy.asyncify(run)(key, port)
        return {}

    return asyncified


def _to_thread(run: Callable[[str, int], None]) -> Callable[..., Any]:
    async def to_thread(key: str, port: int):
        await asyncio.to_thread(run, key, port)
        return {}

    return to_thread


def _pooled(run: Callable[[str, int], None]) -> type[dspy.Module]:
    class Pooled(dspy.Module):
        def forward(self, key: str, port: int):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(run, key, port).result()
            return {}

    return Pooled


def _joined(run: Callable[[str, int], None]) -> type[dspy.Module]:
    class Joined(dspy.Module):
        def forward(self, key: str, port: int):
            thread = threading.Thread(target=lambda: run(key, port))
            thread.start()
            thread.join()
            return {}

    return Joined


def _each(way: Callable[[Any], Any]) -> types.SimpleNamespace:
    return types.SimpleNamespace(**{wait.__name__: way(_noting(wait)) for wait in WAITS})


Loop, Sync, Asyncify = _each(_on_loop), _each(_sync), _each(_asyncified)
ToThread, Pool, Thread = _each(_to_thread), _each(_pooled), _each(_joined)
