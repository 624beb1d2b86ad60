"""A worker process: the runner with a port to its host, for as long as that is there.

It is started as a program of its own, or forked from a zygote (see zygote.py), which has imported
DSPy already.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any, NoReturn

from tower_dspy import faults, pool, startup, system
from tower_dspy import loop as loops
from tower_dspy.frames import Frames, Log
from tower_dspy.port import Port


def run(taken: socket.socket, hello: dict[str, Any]) -> NoReturn:
    """The life of a worker that is a program of its own."""
    system.die_with(hello["parent"])
    frames = Frames(taken)
    try:
        weaker = prepare(hello, Log(frames))
    except BaseException as error:
        frames.send("unusable", {"fault": faults.describe(error)})
        os._exit(1)
    serve(frames, hello, weaker)


def prepare(hello: dict[str, Any], log: Log) -> list[str]:
    """Imports DSPy and makes a prediction; returns what is weaker with this DSPy."""
    startup.before_import()
    sys.path[:0] = hello["python_path"]
    weaker = startup.import_dspy(log)
    startup.warm_alone()
    startup.calm_gc()
    return weaker


def serve(frames: Frames, hello: dict[str, Any], weaker: list[str]) -> NoReturn:
    """The life of a worker that has imported DSPy."""
    # A child that the program forks must not keep the socket open when this process is gone.
    os.register_at_fork(after_in_child=frames.close)
    port = Port(frames)
    try:
        # Not before `prepare`: they import DSPy.
        from tower_dspy import exchange
        from tower_dspy.runner import Runner
        from tower_dspy.watchdog import Watchdog

        exchange.connect(port)
        system.limit_memory(hello["memory_limit"])
        threads = hello["sync_threads"]
        loop = loops.make(port, (pool.GRACE, threads))
        workers = pool.Pool(port, loop, "tower-dspy-sync", threads, pool.GRACE, threads)
        runner = Runner(port, loop, workers)
    except BaseException as error:
        frames.send("unusable", {"fault": faults.describe(error)})
        os._exit(1)
    frames.send("ready", {"weaker": weaker})
    port.serve(runner, loop)
    # What holds the GIL, it cannot name; the host sees that by the heartbeat.
    watchdog = Watchdog(port, runner, loop)
    loops.run(loop, port.is_stopped)
    frames.flush()
    watchdog.stop()
    loops.close(loop)
    # Not by the end of the interpreter: it would wait for the program's threads.
    os._exit(0)
