"""The state of one call in Python: its deadline, its task, and the children of that."""

import asyncio
import dataclasses
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from tower_dspy.lm_call import CURRENT_LM_CALL

CURRENT_CALL: "ContextVar[CallState | None]" = ContextVar("tower_dspy_call", default=None)


class Cancelled(BaseException):
    """Ends code on a thread whose call was cancelled. No `except Exception` catches it."""


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class CallState:
    """The state of one call, from its start until all its tasks and threads have ended."""

    sequence: int
    # The host's side of the call, see runner.py.
    call: Any
    remaining: dataclasses.InitVar[float | None]
    # The name of the program or function.
    program: str = ""
    deadline: float | None = None
    # What cancels the call, on the thread of its loop, see runner.py.
    runner: Any = None
    # An async program has a task, a sync one a job of a pool.
    task: asyncio.Task | None = None
    job: Any = None
    begun: bool = False
    # The task that was signalled in sync code on the loop, by the watchdog or by a refusal.
    interrupted_task: asyncio.Task | None = None
    cancelled: bool = False
    # The call has its outcome: none of its tasks may go on.
    closed: bool = False
    # The host ended the call, and not its own code.
    ended_by_host: bool = False
    # How often the code of each thread, and of the tasks, was refused, see checkpoint.py.
    refusals: dict[int, int] = dataclasses.field(default_factory=dict)
    # The program's output fields by name, where they are known, see schema.Output.
    outputs: dict[str, Any] | None = None
    # The host's numbers of the program's LMs; the caller's choice comes first.
    lms: tuple[int, ...] = ()
    # Whether httpx requests that are no LM calls go through the host as well.
    carries_http: bool = True
    # The LMs that replace the program's own ones, by the ids of those.
    replaced_lms: dict[int, Any] = dataclasses.field(default_factory=dict)
    # The call's LM history, see patches/history.py. Created with the first entry.
    history: Any = None
    # The stream to its reader, see call_stream.py; None if nobody reads one.
    stream: Any = None
    # The exchanges that tasks wait for.
    exchanges: set[Any] = dataclasses.field(default_factory=set)
    # The tasks, threads and processes that the call's code started.
    children: set[asyncio.Future] = dataclasses.field(default_factory=set)

    def __post_init__(self, remaining: float | None) -> None:
        if remaining is not None:
            self.deadline = time.monotonic() + remaining

    def is_over(self) -> bool:
        """Whether the call may not call an LM any more. The host knows it first."""
        return self.cancelled or self.closed or self.call.is_over()

    def add_child(self, child: asyncio.Future) -> None:
        """Adds a task, a thread or a process that the call's code started to the call."""
        self.children.add(child)
        child.add_done_callback(self.children.discard)
        if self.closed:
            child.cancel()


def current_call() -> CallState | None:
    """The call that this code belongs to. DSPy's settings carry it into DSPy's threads."""
    settings = sys.modules.get("dspy.dsp.utils.settings")
    overrides = {} if settings is None else settings.thread_local_overrides.get()
    return overrides.get("tower_dspy_call") or CURRENT_CALL.get()


def parent_call() -> CallState | None:
    """The call that work which is started here becomes part of.

    None in a finalizer: the collector runs those of one call's objects in the code of another, and
    clients close themselves there by a task that nobody waits for.
    """
    state = current_call()
    return None if state is None or is_in_finalizer() else state


def is_in_finalizer() -> bool:
    """Whether a `__del__` is running on this thread."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def run_in_call(state: CallState, function: Callable[[], Any]) -> Any:
    """Calls a function as code of a call, on a thread that belongs to none."""
    token = CURRENT_CALL.set(state)
    try:
        return function()
    finally:
        CURRENT_CALL.reset(token)


def run_outside_calls(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function whose work, with the tasks and threads that it starts, is of no call."""

    def run() -> Any:
        CURRENT_CALL.set(None)
        CURRENT_LM_CALL.set(None)
        settings = sys.modules.get("dspy.dsp.utils.settings")
        if settings is not None:
            overrides = settings.thread_local_overrides
            overrides.set(type(overrides.get())({**overrides.get(), "tower_dspy_call": None}))
        return function(*args, **kwargs)

    return copy_context().run(run)
