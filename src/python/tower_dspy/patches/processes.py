"""Child processes that a program starts, as children of its call.

They are those of `subprocess.Popen`, on which those of asyncio, anyio, MCP over stdio and DSPy's
Deno sandbox are built, and of `multiprocessing.Process`. They end with a call that the host ends; a
call that ends by itself leaves them alone. The functions that start them are wrapped. Not part of a
call are processes that start outside a call, and

- the workers of `multiprocessing.Pool`, `ProcessPoolExecutor` and joblib, and the servers of
  `multiprocessing.Manager`: they outlive the work that they were made for;
- what is started without these modules, such as by `os.fork` or `os.system`.
"""

import asyncio
import contextlib
import functools
import logging
import os
import subprocess
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from tower_dspy.call_process import CallProcess, forget_ended
from tower_dspy.call_state import CallState, parent_call
from tower_dspy.interrupt import is_clean_up_here, shielded
from tower_dspy.process_tree import Process

_log = logging.getLogger("tower_dspy.startup")

# The ends of the names of the modules whose functions the workers of pools and managers run.
_POOLS = ("multiprocessing.pool", "concurrent.futures.process", "loky.process_executor")
_POOLS += ("multiprocessing.managers",)


def install(loop: asyncio.AbstractEventLoop, grace: float) -> None:
    """Wraps the functions that start processes, for the calls of `loop`.

    A process is killed `grace` seconds after it was told to stop.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        _log.warning("this system has no pidfd_open (%s): child processes are not ended", error)
        return
    add = functools.partial(_add, loop, grace)
    subprocess.Popen.__init__ = _wrap_popen(subprocess.Popen.__init__, add)
    BaseProcess.start = _wrap_start(BaseProcess.start, add)


def _add(
    loop: asyncio.AbstractEventLoop,
    grace: float,
    state: CallState,
    pid: int,
    poll: Callable[[], Any],
    is_unreaped: Callable[[], bool],
    name: str | None = None,
) -> CallProcess | None:
    """Adds a process that was just started to its call. `poll` reaps it if it has ended."""
    with contextlib.suppress(OSError):  # it has ended, or there is no descriptor left
        process = Process(pid)
        # Checked after the pidfd was opened: the id was not reused before that.
        if is_unreaped():
            forget_ended(state)
            name = f"process {name}" if name else f"process of {_command(pid)}"
            child = CallProcess(name, loop, state, process, grace, poll)
            if not child.is_over():
                child.of_clean_up = state.is_over() and is_clean_up_here()
                if child.of_clean_up:
                    # Its thread is interrupted again after the same time.
                    loop.call_soon_threadsafe(loop.call_later, grace, child.interrupt)
                state.add_child(child)
                return child
    return None


def _wrap_popen(init: Callable[..., None], add: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(init)
    def as_child(self: subprocess.Popen, *args: Any, **options: Any) -> None:
        state = parent_call()
        if state is None:
            return init(self, *args, **options)

        def begin() -> CallProcess | None:
            init(self, *args, **options)
            return add(state, self.pid, self.poll, lambda: _is_unreaped(self.pid))

        _start(begin)

    return as_child


def _wrap_start(start: Callable[..., None], add: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(start)
    def as_child(self: BaseProcess) -> None:
        state = parent_call()
        module = getattr(getattr(self, "_target", None), "__module__", None) or ""
        if state is None or module.endswith(_POOLS):
            return start(self)

        def begin() -> CallProcess | None:
            start(self)
            return add(state, self.pid, self.is_alive, self.is_alive, f"`{self.name}`")

        _start(begin)

    return as_child


def _start(begin: Callable[[], CallProcess | None]) -> None:
    """Starts a process of a call."""
    # An interrupt in between would leave a process that is not part of the call.
    child = shielded(begin)
    if child is not None:
        # The code reaps it. Where `shielded` raises, the code does not get it.
        child.reap = None


def _is_unreaped(pid: int) -> bool:
    """Whether a child of this process was not reaped; raises `OSError` if it was."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return True


def _command(pid: int) -> str:
    """The name of the program that a process runs. Its arguments may be secret."""
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
        return name.read().rstrip("\n")
