"""Programs that nobody would write on purpose. What must hold of each is written in nasty.rs.

Each is a plain function, run as a sync program by `Sync.<name>` and as an async one by
`Async.<name>`, where it is on the loop itself; those of `Async` alone need one. They tell the test
what they do by a connection to its `port`, and are released when the test closes it. Those that are
to be ended say `begun` once an interrupt can only hit what it is to hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from operator import call
from typing import Any

import dspy


class Peer:
    """The connection to the test, which releases the program by closing it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))

    def say(self, event: str) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(f"{event}\n".encode())

    def begin_wait(self, wait: Callable[[], Any]) -> None:
        """Says `begun` and waits in C code, with no step in between that an interrupt could end."""
        list(map(call, (partial(self.socket.send, b"begun\n"), wait)))

    def wait(self) -> None:
        """Blocks, without the GIL, until the test closes the connection."""
        self.socket.recv(1)

    def when_released(self, function: Callable[[], Any]) -> None:
        """Calls a function when the test closes the connection, on a thread of no call."""
        threading.Thread(target=lambda: (self.wait(), function()), daemon=True).start()

    def released(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])


def answers(port: int) -> None:
    """Is not nasty at all."""
    Peer(port)


def sleeps(port: int) -> None:
    peer = Peer(port)
    peer.say("begun")
    time.sleep(0.6)
    peer.say("woke")


def sleeps_a_minute(port: int) -> None:
    """Longer than anybody waits."""
    Peer(port).say("begun")
    time.sleep(60)


def sleeps_a_minute_in_c(port: int) -> None:
    import ctypes

    Peer(port).begin_wait(partial(ctypes.CDLL(None).sleep, 60))


def waits_for_a_socket(port: int) -> None:
    peer = Peer(port)
    peer.say("begun")
    peer.wait()
    peer.say("woke")


def waits_for_an_event(port: int) -> None:
    peer = Peer(port)
    peer.say("begun")
    threading.Event().wait()
    peer.say("woke")


def waits_for_a_lock(port: int) -> None:
    peer = Peer(port)
    lock = threading.Lock()
    lock.acquire()
    peer.when_released(lock.release)
    peer.begin_wait(lock.acquire)
    peer.say("woke")


def reads_a_pipe(port: int) -> None:
    """A pipe that no child of the call writes to."""
    peer = Peer(port)
    reader, writer = os.pipe()
    peer.when_released(lambda: os.close(writer))
    peer.begin_wait(partial(os.read, reader, 1))
    peer.say("woke")


def waits_in_finally(port: int) -> None:
    """A clean-up whose own waits are not ended, of each kind that is."""
    peer = Peer(port)
    try:
        peer.say("begun")
        threading.Event().wait()
    finally:
        threading.Event().wait(0.1)
        time.sleep(0.1)
        ours, theirs = socket.socketpair()
        threading.Timer(0.1, theirs.send, (b"1",)).start()
        if ours.recv(1) == b"1":
            peer.say("cleaned")


def spins(port: int) -> None:
    peer = Peer(port)
    try:
        peer.say("begun")
        while True:
            pass
    finally:
        peer.say("cleaned")


def sleeps_in_finally(port: int) -> None:
    peer = Peer(port)
    try:
        peer.say("begun")
        while True:
            pass
    finally:
        time.sleep(0.3)
        peer.say("cleaned")


def catches_exceptions(port: int) -> None:
    peer = Peer(port)
    peer.say("begun")
    while True:
        try:
            while True:
                pass
        except Exception:
            peer.say("swallowed")


def swallows_all(port: int) -> None:
    peer = Peer(port)
    event = "begun"
    while not peer.released():
        try:
            peer.say(event)
            while not peer.released():
                pass
        except BaseException:
            event = "swallowed"


def holds_the_gil(port: int) -> None:
    import ctypes

    peer = Peer(port)
    # Unlike CDLL it keeps the GIL.
    recv, buffer = ctypes.PyDLL(None).recv, ctypes.create_string_buffer(1)
    peer.begin_wait(partial(recv, peer.socket.fileno(), buffer, 1, 0))


def matches_forever(port: int) -> None:
    """A regular expression that takes about a second, and the GIL."""
    Peer(port).say("begun")
    re.match(r"(a+)+$", "a" * 23 + "b")


def exits(port: int) -> None:
    Peer(port)
    sys.exit(3)


def recurses(port: int) -> None:
    Peer(port)
    _deeper()


def _deeper() -> None:
    _deeper()


def recurses_in_c(port: int) -> None:
    """Deep in C code, where the thread's stack is what is used up."""
    Peer(port)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    json.dumps(nested)


def _busy_thread(peer: Peer) -> threading.Thread:
    began = threading.Event()

    def spin() -> None:
        try:
            peer.say("begun")
            began.set()
            while True:
                pass
        finally:
            peer.say("cleaned")

    thread = threading.Thread(target=spin)
    thread.start()
    began.wait()
    return thread


def leaves_a_busy_thread(port: int) -> None:
    _busy_thread(Peer(port))


def joins_a_busy_thread(port: int) -> None:
    _busy_thread(Peer(port)).join()


def allocates(port: int) -> None:
    """Two gigabytes, where there is one."""
    Peer(port)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as pages:
        taken = int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), before[1]))
    try:
        bytearray(2 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def prints_megabytes(port: int) -> None:
    Peer(port)
    for _ in range(8):
        print("x" * (1 << 20))


def forks(port: int) -> int:
    """Parent and child both return."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        Peer(port)
    return child


def stops_the_loop(port: int) -> None:
    Peer(port)
    asyncio.get_running_loop().stop()


def runs_a_loop(port: int) -> None:
    """asyncio.run: fails on a loop, and is fine on a thread."""
    Peer(port)
    asyncio.run(asyncio.sleep(0))


def ends_the_process(port: int) -> None:
    Peer(port)
    os._exit(7)


def kills_the_process(port: int) -> None:
    Peer(port)
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(port: int) -> None:
    import ctypes

    Peer(port)
    ctypes.string_at(0)


async def shields(port: int) -> None:
    peer = Peer(port)

    async def child() -> None:
        try:
            peer.say("begun")
            await asyncio.Event().wait()
        finally:
            peer.say("cleaned")

    await asyncio.shield(asyncio.create_task(child()))


async def swallows_cancel(port: int) -> None:
    peer = Peer(port)
    peer.socket.setblocking(False)
    for event in ("begun", "swallowed"):
        with contextlib.suppress(asyncio.CancelledError):
            peer.say(event)
            await asyncio.get_running_loop().sock_recv(peer.socket, 1)


async def swallows_and_spins(port: int) -> None:
    """First its cancellation, then the loop."""
    peer = Peer(port)
    try:
        peer.say("begun")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        try:
            peer.say("swallowed")
            while True:
                pass
        finally:
            peer.say("cleaned")


async def forks_and_waits(port: int) -> None:
    """Parent and child both go back to the loop."""
    child = os.fork()
    await asyncio.sleep(0.01)
    os.waitpid(child, 0)
    Peer(port)


async def computes_in_finally(port: int) -> None:
    """A clean-up that holds the loop up, after a cancellation that went by the loop."""
    peer = Peer(port)
    try:
        peer.say("begun")
        await asyncio.Event().wait()
    finally:
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            pass
        peer.say("cleaned")


class Sync:
    """The programs as modules with a `forward`."""


class Async:
    """The programs as async functions."""


def _sync(function: Callable[[int], Any]) -> Callable[[], dspy.Module]:
    class Nasty(dspy.Module):
        def forward(self, port: int):
            return {"answer": function(port)}

    return Nasty


def _async(function: Callable[[int], Any]) -> Callable[[int], Any]:
    async def nasty(port: int):
        answer = function(port)
        return {"answer": await answer if inspect.isawaitable(answer) else answer}

    return nasty


for _function in (*filter(inspect.isfunction, list(vars().values())),):
    if list(inspect.signature(_function).parameters) == ["port"]:
        setattr(Async, _function.__name__, staticmethod(_async(_function)))
        if not inspect.iscoroutinefunction(_function):
            setattr(Sync, _function.__name__, staticmethod(_sync(_function)))
