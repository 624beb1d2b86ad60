"""Programs that start processes in every way there is, and wait for them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import dspy

from witness import note

# Says that it runs, and goes on for an hour.
_WAITS = "print('up', flush=True); import time; time.sleep(3600)"
# The same, and SIGTERM does not end it.
_IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + _WAITS


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _started(key: str, code: str, **options: object) -> subprocess.Popen[bytes]:
    """A process that runs; its id is noted."""
    child = subprocess.Popen(_python(code), stdout=subprocess.PIPE, **options)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    note(key, str(child.pid))
    return child


def popen(key: str) -> None:
    """Waits for a process of `subprocess`."""
    try:
        _started(key, _WAITS).wait()
    finally:
        note(key, "cleaned")


def ignores(key: str) -> None:
    """Waits for a process that SIGTERM does not end."""
    try:
        _started(key, _IGNORES).wait()
    finally:
        note(key, "cleaned")


def _module(function):
    class Waits(dspy.Module):
        """The same on a thread of the host's."""

        def forward(self, key: str):
            function(key)
            return {}

    return Waits


Popen = _module(popen)
Ignores = _module(ignores)


async def leaves(key: str):
    """Leaves a process running, and ends by itself."""
    _started(key, _WAITS)
    return {"answer": "done"}


async def holds_up(key: str):
    """Waits for a process on the loop itself."""
    popen(key)
    return {}


async def kill(pid: int) -> None:
    """For the tests: ends a process that a program has left."""
    os.kill(pid, signal.SIGKILL)
    for _ in range(3000):
        if not os.path.exists(f"/proc/{pid}/exe"):
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(f"process {pid} goes on")


async def runs(pid: int) -> bool:
    """For the tests: whether a process has not ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _pause() -> None:
    time.sleep(0.01)
