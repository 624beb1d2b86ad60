"""Programs that end the process that they run in, or hold it up for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def _tell(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


async def exits():
    os._exit(3)


async def spins(port: int):
    with _tell(port):
        while True:
            pass


async def spins_on(port: int):
    """The same, whatever is raised in it."""
    with _tell(port):
        while True:
            with contextlib.suppress(BaseException):
                while True:
                    pass


async def ignores_sigterm(port: int):
    """Waits for a lock, which the host does not end."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    held = threading.Lock()
    held.acquire()
    with _tell(port):
        held.acquire()


async def starts_children() -> list[int]:
    """One that runs another program, and one that is a fork of this process."""
    sleeps = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    forked = os.fork()
    if forked == 0:
        while True:
            time.sleep(3600)
    return [sleeps.pid, forked]


async def descriptors() -> list[str]:
    """What the process has open."""
    names = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder's own
            names.append(os.readlink(f"/proc/self/fd/{name}"))
    return names


async def allocates_much() -> int:
    return len(bytearray(2 << 30))
