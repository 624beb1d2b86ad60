"""One call, as Python sees it: its limit, its task, and the tasks and threads that it made."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from tower_dspy.lm_call import CURRENT

SCOPE: ContextVar[Scope | None] = ContextVar("tower_dspy_scope", default=None)


_FIRST_CHILD = threading.Lock()


class Cancelled(BaseException):
    """Ends code on a thread whose call was cancelled. No `except Exception` holds it up."""


class Scope:
    """The state of one call, from its start until all that it made has ended."""

    __slots__ = (
        "begun",
        "broken",
        "call",
        "cancelled",
        "carries_http",
        "children",
        "closed",
        "deadline",
        "exchanges",
        "history",
        "job",
        "lms",
        "outputs",
        "refusals",
        "sequence",
        "stand_ins",
        "target",
        "task",
        "was_blocked",
    )

    def __init__(self, sequence: int, call: Any, remaining: float | None, target: int = 0) -> None:
        self.sequence = sequence
        # The program or function, by the runner's id.
        self.target = target
        # The port's side of the call, see runner.py.
        self.call = call
        self.deadline = None if remaining is None else time.monotonic() + remaining
        # An async program has a task, a sync one a job of a pool.
        self.task: asyncio.Task | None = None
        self.job: Any = None
        self.begun = False
        # The task in which the call's signal was raised, as the loop could not bring it.
        self.broken: asyncio.Task | None = None
        self.cancelled = False
        # The call has its outcome: no task of its own may go on.
        self.closed = False
        # An LM call was refused already, see exchange.blocked.
        self.was_blocked = False
        # The same for threads: how often each was refused; made with the first.
        self.refusals: dict[int, int] | None = None
        # The program's output fields by name, where they are known, see schema.Output.
        self.outputs: dict[str, Any] | None = None
        # The host's numbers of the program's LMs; the caller's choice comes first.
        self.lms: tuple[int, ...] = ()
        # Whether requests by httpx that are no LM calls go through the host as well.
        self.carries_http = True
        # The LMs that are asked in the place of the program's own, by the ids of those.
        self.stand_ins: dict[int, Any] = {}
        # What it asked its LMs, see patches/history.py; made with the first question.
        self.history: Any = None
        # The exchanges that tasks wait for; made with the first.
        self.exchanges: set[Any] | None = None
        # Made when the first child is, as most calls have none.
        self.children: set[asyncio.Future] | None = None

    def is_over(self) -> bool:
        """Whether the call may not call an LM any more. Rust knows it first."""
        return self.cancelled or self.closed or self.call.is_over()

    def adopt(self, child: asyncio.Future) -> None:
        """Counts a task, or a thread, that the call's code made as part of the call."""
        if self.children is None:
            # Threads make threads, too.
            with _FIRST_CHILD:
                if self.children is None:
                    self.children = set()
        self.children.add(child)
        child.add_done_callback(self.children.discard)
        if self.closed:
            child.cancel()


def current_scope() -> Scope | None:
    """The call that runs here; DSPy's settings carry it into its threads as well."""
    dspy = sys.modules.get("dspy")
    scope = None if dspy is None else dspy.settings.get("tower_dspy_scope")
    return scope or SCOPE.get()


def outside(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function whose work, and what it leaves behind, belongs to no call."""

    def run() -> Any:
        SCOPE.set(None)
        CURRENT.set(None)
        settings = sys.modules.get("dspy.dsp.utils.settings")
        if settings is not None:
            overrides = settings.thread_local_overrides
            overrides.set(type(overrides.get())({**overrides.get(), "tower_dspy_scope": None}))
        return function(*args, **kwargs)

    return copy_context().run(run)


def deadline() -> float | None:
    """The call's deadline in seconds of `time.monotonic()`; None without a limit."""
    scope = current_scope()
    return None if scope is None else scope.deadline


def remaining() -> float | None:
    """Seconds left until the call's deadline, never below 0; None without a limit."""
    limit = deadline()
    return None if limit is None else max(0.0, limit - time.monotonic())


def cancelled() -> bool:
    """Whether the call has been cancelled: nobody waits for its answer any more.

    Known at once, also while the code that asks holds the loop up.
    """
    scope = current_scope()
    return scope is not None and scope.is_over()


def partial(**fields: Any) -> bool:
    """Leaves what the program has of its answer, for a caller that will get no more than that.

    The fields are serialised at once, and replace those of the call before as a whole. Whoever
    stops the call finds them on the error (`Error::spent`), even while this program blocks. False
    if nobody waits for them any more, or there is no host.

    Raises:
        ValueError: a field is not one of the program's output fields, or its value does not fit
            the type that the signature gives it, or is not JSON.
    """
    scope = current_scope()
    if scope is None:
        return False
    known = scope.outputs
    if known is not None and (unknown := [name for name in fields if name not in known]):
        raise ValueError(f"the program has no output field {unknown}; it has {list(known)}")
    from tower_dspy.jsonable import to_json_data

    try:
        data = to_json_data(fields)
    except Exception as error:
        raise ValueError(f"the partial answer is not JSON: {error}") from error
    for name, value in fields.items() if known is not None else ():
        if (misfit := known[name].misfit(value, data[name])) is not None:
            raise ValueError(f"the partial answer's `{name}` does not fit: {misfit}")
    try:
        return scope.call.partial(data)
    except Exception as error:
        raise ValueError(f"the partial answer is not JSON: {error}") from error
