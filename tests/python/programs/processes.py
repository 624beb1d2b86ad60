"""Programs that start processes in every way there is, and wait for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import dspy

from witness import gate, note

# As a program's module keeps what serves all its calls.
_kept: list[dspy.PythonInterpreter] = []
_kept_manager: list[Any] = []
_kept_pool: list[concurrent.futures.ProcessPoolExecutor] = []

# Says its process id, and goes on for an hour.
WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(3600)"
# The same, and SIGTERM does not end it.
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS
# Waits for a process of its own, which keeps its output open.
_PARENT = f"""
import os, subprocess, sys
print(os.getpid(), flush=True)
subprocess.run([sys.executable, '-c', {IGNORES!r}])
"""
# Has a process in its group whose parent is gone.
_SCATTERED = """
import os, time
print(os.getpid(), flush=True)
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(3600)
    os._exit(0)
os.wait()
time.sleep(3600)
"""
# Leaves a process in its group, with its output, and ends.
_BACKGROUND = f"""
import os
if os.fork() == 0:
    {WAITS}
"""
_SANDBOX = [sys.executable, str(Path(__file__).with_name("sandbox.py"))]


def python(code: str) -> list[str]:
    """The command that runs code."""
    return [sys.executable, "-c", code]


def _wait_for(key: str, code: str, processes: int = 1, **options: Any) -> None:
    """Starts a process, notes its id and those of its own processes, and waits for them."""
    child = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True, **options)
    assert child.stdout is not None
    try:
        for _ in range(processes):
            note(key, child.stdout.readline().strip())
        child.communicate()
    finally:
        note(key, "cleaned")


def popen(key: str) -> None:
    _wait_for(key, WAITS)


def ignores(key: str) -> None:
    _wait_for(key, IGNORES)


def parent(key: str) -> None:
    _wait_for(key, _PARENT, 2)


def session(key: str) -> None:
    _wait_for(key, _SCATTERED, 2, start_new_session=True)


def background(key: str) -> None:
    _wait_for(key, _BACKGROUND, start_new_session=True)


def slow_to_start(key: str) -> None:
    """Starts a process that begins once the test writes to the descriptor."""
    reads, writes = os.pipe()
    note(key, str(writes))
    try:
        # The code gets no object of the process, as `subprocess` waits until it has begun.
        subprocess.Popen(["sleep", "3600"], preexec_fn=lambda: os.read(reads, 1))
    finally:
        os.close(reads)
        os.close(writes)


def _wait_for_multiprocessing(key: str, method: str) -> None:
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(3600,))
    child.start()
    try:
        note(key, str(child.pid))
        child.join()
    finally:
        note(key, "cleaned")


def forked(key: str) -> None:
    _wait_for_multiprocessing(key, "fork")


def spawned(key: str) -> None:
    _wait_for_multiprocessing(key, "spawn")


def fork_server(key: str) -> None:
    _wait_for_multiprocessing(key, "forkserver")


def sandboxed(key: str) -> None:
    """DSPy's sandbox, with code in it that does not end."""
    try:
        with dspy.PythonInterpreter(deno_command=_SANDBOX) as sandbox:
            sandbox.start()
            note(key, str(sandbox.deno_process.pid))
            sandbox("while True: pass")
    finally:
        note(key, "cleaned")


async def of_asyncio(key: str, code: str = WAITS):
    child = await asyncio.create_subprocess_exec(*python(code), stdout=subprocess.PIPE)
    assert child.stdout is not None
    note(key, (await child.stdout.readline()).decode().strip())
    try:
        await child.wait()
    finally:
        note(key, "cleaned")
    return {}


async def ignored_by_asyncio(key: str):
    return await of_asyncio(key, IGNORES)


async def of_anyio(key: str):
    """As MCP's client starts a server that it speaks with over stdio."""
    child = await anyio.open_process(python(WAITS), stderr=None, start_new_session=True)
    assert child.stdout is not None
    note(key, (await child.stdout.receive()).decode().strip())
    try:
        await child.wait()
    finally:
        note(key, "cleaned")
    return {}


async def holds_up(key: str):
    """Waits on the loop itself, which stands still meanwhile."""
    child = subprocess.Popen(["sleep", "3600"])
    note(key, str(child.pid))
    try:
        child.wait()
    finally:
        note(key, "cleaned")
    return {}


def _on_a_thread(function: Any) -> type[dspy.Module]:
    class Waits(dspy.Module):
        def forward(self, key: str):
            function(key)
            return {}

    return Waits


Popen, Ignores, Parent, Session = map(_on_a_thread, (popen, ignores, parent, session))
Forked, Spawned, ForkServer = map(_on_a_thread, (forked, spawned, fork_server))
Sandboxed, Background, SlowToStart = map(_on_a_thread, (sandboxed, background, slow_to_start))


async def leaves(key: str):
    """Leaves a process running, and ends by itself once the gate is open."""
    child = subprocess.Popen(python(WAITS), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    note(key, child.stdout.readline().strip())
    await gate(key)
    return {"answer": "done"}


async def keeps_a_sandbox(key: str):
    """Uses one sandbox in all its calls."""
    if not _kept:
        _kept.append(dspy.PythonInterpreter(deno_command=_SANDBOX))
        _kept[0].start()
    note(key, str(_kept[0].deno_process.pid))
    return {"answer": _kept[0]("print(1+1)")}


class CleansUp(dspy.Module):
    """Cleans up by a process once it is cancelled."""

    def forward(self, key: str, seconds: float = 0.2):
        try:
            popen(key)
        finally:
            done = subprocess.run(python(f"import time; time.sleep({seconds})"), check=False)
            note(key, f"status {done.returncode}")
        return {}


async def uses_a_pool(key: str):
    """Waits for the worker of a pool."""
    _kept_pool.append(pool := concurrent.futures.ProcessPoolExecutor(1))
    loop = asyncio.get_running_loop()
    note(key, str(await loop.run_in_executor(pool, os.getpid)))
    await loop.run_in_executor(pool, time.sleep, 3600)
    return {}


async def uses_a_manager(key: str):
    """Starts a server of objects for all its calls."""
    _kept_manager.append(manager := multiprocessing.Manager())
    note(key, str(manager._process.pid))
    await gate(key)
    return {}


class Many(dspy.Module):
    """Starts processes that end by themselves, and says how many pidfds that leaves open."""

    def forward(self, key: str):
        before = _pidfds()
        for _ in range(20):
            subprocess.run(["true"], check=True)
        return {"more": _pidfds() - before}


def _pidfds() -> int:
    folder = Path("/proc/self/fd")
    # Not that of the folder, which is closed by then.
    links = [os.readlink(link) for link in folder.iterdir() if link.is_symlink()]
    return sum("pidfd" in link for link in links)


async def runs(pid: int) -> bool:
    """For the tests: whether a process has not ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


async def kill(pid: int) -> None:
    """For the tests: ends a process that a program has left."""
    os.kill(pid, signal.SIGKILL)
