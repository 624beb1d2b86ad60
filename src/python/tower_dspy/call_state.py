"""The state of one call in Python: its deadline, its task, and the children of that."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from tower_dspy.lm_call import CURRENT_LM_CALL

CURRENT_CALL: ContextVar[CallState | None] = ContextVar("tower_dspy_call", default=None)

_children_lock = threading.Lock()


class Cancelled(BaseException):
    """Ends code on a thread whose call was cancelled. No `except Exception` catches it."""


class CallState:
    """The state of one call, from its start until all its tasks and threads have ended."""

    __slots__ = (
        "begun",
        "call",
        "cancelled",
        "carries_http",
        "children",
        "closed",
        "deadline",
        "exchanges",
        "history",
        "interrupted_task",
        "job",
        "lms",
        "outputs",
        "refusals",
        "replaced_lms",
        "sequence",
        "target",
        "task",
        "was_refused",
    )

    def __init__(self, sequence: int, call: Any, remaining: float | None, target: int = 0) -> None:
        self.sequence = sequence
        # The program or function, by the runner's id.
        self.target = target
        # The host's side of the call, see runner.py.
        self.call = call
        self.deadline = None if remaining is None else time.monotonic() + remaining
        # An async program has a task, a sync one a job of a pool.
        self.task: asyncio.Task | None = None
        self.job: Any = None
        self.begun = False
        # The task that the watchdog interrupted, as the blocked loop could not cancel it.
        self.interrupted_task: asyncio.Task | None = None
        self.cancelled = False
        # The call has its outcome: none of its tasks may go on.
        self.closed = False
        # A task was refused a request before, see checkpoint.refuse_task.
        self.was_refused = False
        # How often each thread was refused, see checkpoint.refuse_thread. Created on first use, as
        # are `exchanges` and `children`: most calls have none.
        self.refusals: dict[int, int] | None = None
        # The program's output fields by name, where they are known, see schema.Output.
        self.outputs: dict[str, Any] | None = None
        # The host's numbers of the program's LMs; the caller's choice comes first.
        self.lms: tuple[int, ...] = ()
        # Whether httpx requests that are no LM calls go through the host as well.
        self.carries_http = True
        # The LMs that replace the program's own ones, by the ids of those.
        self.replaced_lms: dict[int, Any] = {}
        # The call's LM history, see patches/history.py. Created with the first entry.
        self.history: Any = None
        # The exchanges that tasks wait for.
        self.exchanges: set[Any] | None = None
        # The tasks and threads that the call's code started.
        self.children: set[asyncio.Future] | None = None

    def is_over(self) -> bool:
        """Whether the call may not call an LM any more. The host knows it first."""
        return self.cancelled or self.closed or self.call.is_over()

    def add_child(self, child: asyncio.Future) -> None:
        """Adds a task or a thread that the call's code started to the call."""
        if self.children is None:
            # Threads start threads, too.
            with _children_lock:
                if self.children is None:
                    self.children = set()
        self.children.add(child)
        child.add_done_callback(self.children.discard)
        if self.closed:
            child.cancel()


def current_call() -> CallState | None:
    """The call that this code belongs to. DSPy's settings carry it into DSPy's threads."""
    dspy = sys.modules.get("dspy")
    state = None if dspy is None else dspy.settings.get("tower_dspy_call")
    return state or CURRENT_CALL.get()


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
