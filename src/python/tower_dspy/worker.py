"""A worker process: a runner that serves its host until the host is gone.

It is a program of its own, or was forked from a zygote (see zygote.py) that has imported DSPy.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

from tower_dspy import faults, pool, process_limits, startup
from tower_dspy import loop as loops
from tower_dspy.frames import Frames, Log
from tower_dspy.host_proxy import HostProxy


def run(taken: socket.socket, hello: dict[str, Any]) -> NoReturn:
    """Runs a worker that is a program of its own."""
    process_limits.end_with_parent(hello["parent"])
    frames = Frames(taken)
    with exiting_if_unusable(frames):
        warnings = prepare(hello, Log(frames))
    serve(frames, hello, warnings)


@contextlib.contextmanager
def exiting_if_unusable(frames: Frames) -> Iterator[None]:
    """Reports a failure of the block to the host, and exits."""
    try:
        yield
    except BaseException as error:
        frames.send("unusable", {"fault": faults.describe(error)})
        os._exit(1)


def prepare(hello: dict[str, Any], log: Log) -> list[str]:
    """Imports all that a worker needs and makes a prediction; returns warnings of this DSPy."""
    startup.before_import()
    startup.extend_path(hello["python_path"], hello["working_dir"])
    warnings = startup.import_dspy(log, lambda: bool(hello["debug_log"]))
    # Here, as they import DSPy, for which `before_import` has to come first.
    import anyio.to_thread  # noqa: F401

    import tower_dspy.watchdog  # noqa: F401
    from tower_dspy.warmup import warm_alone

    warm_alone()
    startup.calm_gc()
    return warnings


def serve(frames: Frames, hello: dict[str, Any], warnings: list[str]) -> NoReturn:
    """Runs a worker that has imported DSPy."""
    # A child that the program forks must not keep the socket open.
    os.register_at_fork(after_in_child=frames.close)
    host = HostProxy(frames, hello["passed_keys"])
    # Here, as they import DSPy, which `prepare` does first.
    from tower_dspy import exchange
    from tower_dspy.runner import Runner
    from tower_dspy.watchdog import Watchdog

    with exiting_if_unusable(frames):
        exchange.connect(host)
        process_limits.limit_memory(hello["memory_limit"])
        threads = hello["sync_threads"]
        loop = loops.make(host, (pool.GRACE, threads))
        sync_pool = pool.Pool(host, loop, "tower-dspy-sync", threads, pool.GRACE, threads)
        runner = Runner(host, loop, sync_pool, hello["load_limit"])
    frames.send("ready", {"weaker": warnings})
    host.serve(runner, loop)
    # Code that holds the GIL blocks the watchdog too; the host notices by the heartbeat.
    watchdog = Watchdog(host, runner, loop)
    loops.run(loop, runner.is_stopped)
    frames.flush()
    watchdog.stop()
    loops.close(loop)
    # Not by the interpreter's exit: it would wait for the program's threads.
    os._exit(0)
