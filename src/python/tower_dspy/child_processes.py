"""Shutdown of the processes that programs started by `concurrent.futures` and `multiprocessing`.

The interpreter of an embedded host is never finalized, so executors and pools are not shut down by
it: their processes would go on, and keep what they inherited, such as the server's listening
socket.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# For an orderly shutdown, then for SIGTERM, then for exit functions that are late: what works on
# takes all of them. The loop has to close within the margin of a stop, which is a second.
_SHUTDOWN = 0.3  # seconds
_TERM = 0.1
_LATE = 0.3
# For what ends at once, unless the machine is busy.
_KILL = 2.0
_SERVERS = 2.0
_TICK = 0.005


def shut_down() -> None:
    """Runs the exit functions of an interpreter, then ends the processes that are left."""
    exits = list(reversed(threading._threading_atexits))
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        exits.append(util._exit_function)
    exiting = _run(exits, _SHUTDOWN)
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.active_children():
        _end(process.active_children, exiting)
    _run(_stop_servers(), _SERVERS)


def _end(active_children: Callable[[], list[Any]], exiting: list[threading.Thread]) -> None:
    """Ends all children, while the exit functions run on these threads."""
    for how, patience in (("terminate", _TERM), ("kill", _KILL)):
        _signal_all(active_children, how, patience)
    # Until its exit function has run, a pool starts other workers in place of those.
    end = time.monotonic() + _LATE
    while any(thread.is_alive() for thread in exiting) and time.monotonic() < end:
        _signal_all(active_children, "kill", _TICK)
        time.sleep(_TICK)
    _signal_all(active_children, "kill", _KILL)


def _run(functions: list[Callable[[], Any]], patience: float) -> list[threading.Thread]:
    """Calls each function on its own thread, so that one that waits does not delay the others.

    Returns the threads.
    """
    end = time.monotonic() + patience
    running = [threading.Thread(target=_quietly, args=(f,), daemon=True) for f in functions]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(max(0.0, end - time.monotonic()))
    return running


def _quietly(function: Callable[[], Any]) -> None:
    with contextlib.suppress(BaseException):
        function()


def _signal_all(active_children: Callable[[], list[Any]], how: str, patience: float) -> None:
    """Signals each child once, including those that a pool starts meanwhile."""
    end = time.monotonic() + patience
    signalled = set()
    while (children := active_children()) and time.monotonic() < end:
        for child in children:
            if child not in signalled:
                signalled.add(child)
                with contextlib.suppress(Exception):  # it has just ended
                    getattr(child, how)()
        time.sleep(_TICK)


def _stop_servers() -> list[Callable[[], Any]]:
    """The stop functions of `multiprocessing`'s helper processes."""
    found = []
    for module, server in (
        ("multiprocessing.forkserver", "_forkserver"),
        ("multiprocessing.resource_tracker", "_resource_tracker"),
    ):
        server = getattr(sys.modules.get(module), server, None)
        if (stop := getattr(server, "_stop", None)) is not None:
            found.append(stop)
    return found
