"""Runs calls on one asyncio loop for a port.

The runner knows nothing of how it is reached. A port (the embedded interpreter, or the socket of
a worker process) calls `load`, `unload`, `start`, `cancel` and `stop` on the loop's thread. It
offers

    port.beat()               the loop is alive
    port.gave_up(replaced)    a thread was abandoned, see pool.py
    port.came_back()          an abandoned thread has ended
    port.stopped()            nothing runs any more

and hands over with each start its own side of the call:

    call.done(value)          the outcome is `value`
    call.failed(fault)        the outcome is a failure, see faults.describe
    call.settled(strays)      all that the call made has ended; names of what it left behind
    call.finished(value)      settled and done at once
    call.abandon()            the loop ends before the call did
    call.cancel()             it is to stop: its LM connections close, if they have not yet
    call.is_over()            whether it may call no LM any more
    call.partial(fields)      a partial answer; false if nobody waits for one any more
    call.stepped(exchange, counts)
                              an LM answered, at last by this exchange, if it was one of the host's,
                              with these tokens as DSPy reads them
    call.bypassed(lm)         an LM call goes past the host, see patches/lm.py and patches/httpx.py

HTTP requests go through the port as well, see exchange.py.

Invariants:
1. Each started call gets exactly one outcome and exactly one `settled`: after the outcome if the
   call left something behind, before it if not.
2. A call is told to stop once, by `task.cancel()` or on its thread: a second time would cut its
   clean-up short.
3. A call is settled when its task or its job, every task made by its code and every thread that
   these wait for have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from tower_dspy import faults, program
from tower_dspy.executor import ThreadOfCall
from tower_dspy.forks import leave_if_child
from tower_dspy.pool import Job, Pool
from tower_dspy.scope import SCOPE, Cancelled, Scope, current_scope

HEARTBEAT = 0.020  # seconds


class Runner:
    """The calls of one loop."""

    def __init__(
        self, port: Any, loop: asyncio.AbstractEventLoop, pool: Pool | None = None
    ) -> None:
        self._port = port
        self._loop = loop
        self._pool = pool or Pool(port, loop, "tower-dspy-sync")
        self._scopes: dict[int, Scope] = {}
        self._numbers = itertools.count(1)
        self._names: dict[int, str] = {}
        self._loading: str | None = None
        # Modules of programs that were given as source.
        self._sources: dict[int, str] = {}
        # The time of the last heartbeat.
        self.beaten = time.monotonic()
        self._targets: dict[int, Callable[[dict[str, Any]], Any]] = {}
        # Those of them that are sync, and run on a thread of the pool.
        self._blocking: set[int] = set()
        self._stopping: asyncio.Task | None = None
        self._all_settled = asyncio.Event()
        self._beat()

    def load(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Loads a program or a function; raises what its import raises."""
        SCOPE.set(None)  # a start before this in the same turn left its own
        target_id = next(self._numbers)
        self._loading = spec["target"]
        try:
            if spec.get("function"):
                self._targets[target_id] = program.load_function(spec)
                described = {}
            else:
                loaded = program.load(self._port, spec)
                if loaded.blocking:
                    self._blocking.add(target_id)
                self._targets[target_id] = loaded.entry(spec["target"])
                described = loaded.describe()
        finally:
            self._loading = None
        self._names[target_id] = spec["target"]
        if spec.get("source") is not None:
            self._sources[target_id] = spec["module"]
        return {"id": target_id, **described}

    def unload(self, target_id: int) -> None:
        """Forgets a program that nobody calls any more; a module that was imported stays."""
        self._targets.pop(target_id, None)
        self._names.pop(target_id, None)
        self._blocking.discard(target_id)
        sys.modules.pop(self._sources.pop(target_id, ""), None)

    def start(
        self,
        sequence: int,
        call: Any,
        target_id: int,
        inputs: dict[str, Any],
        remaining: float | None,
    ) -> None:
        """Starts a call."""
        target = self._targets[target_id]
        scope = Scope(sequence, call, remaining, target_id)
        self._scopes[sequence] = scope
        # The task copies this context, and so does each task that it makes. Setting the variable
        # here costs less than copying a context first, and the next start sets it again.
        SCOPE.set(scope)
        if target_id in self._blocking:
            self._start_on_a_thread(scope, target, inputs)
            return
        # Not through the loop's factory: the call's own task is not one of its children.
        scope.task = asyncio.Task(
            self._serve(scope, target, inputs),
            loop=self._loop,
            name="tower-dspy-call",  # a name of its own would be formatted for each
        )

    def cancel(self, sequence: int) -> None:
        """Signals a call to stop, once."""
        scope = self._scopes.get(sequence)
        if scope is None or scope.cancelled:
            return
        scope.cancelled = True
        scope.call.cancel()
        task = scope.task
        if task is not None:
            if task is not scope.broken:
                task.cancel()
            if not scope.begun:
                # Its code will not run at all, and so cannot report.
                task.add_done_callback(lambda _: self._never_began(scope))
        elif scope.job is not None:
            self._pool.cancel(scope.job)
        else:
            return
        # Its children wait for LMs whose connections are closed, or are threads: the call may wait
        # for them.
        for exchange in tuple(scope.exchanges or ()):
            exchange.interrupt()
        for child in tuple(scope.children or ()):
            if isinstance(child, ThreadOfCall):
                child.cancel()

    def stop(self, grace: float) -> None:
        """Cancels all calls, waits up to `grace` seconds for them, then stops the loop."""
        if self._stopping is None:
            SCOPE.set(None)  # else its own tasks would be part of the last call that was started
            self._stopping = asyncio.Task(self._stop(grace), loop=self._loop)

    async def _serve(self, scope: Scope, target: Callable[..., Any], inputs: dict) -> None:
        # The outcome is reported from here and not by a callback: that saves a turn of the loop.
        scope.begun = True
        value = fault = None
        try:
            value = await target(inputs)
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: raised further, they would end the loop.
            fault = _fault(scope, error)
        # Nothing is to be cancelled any more, and as the task's context holds the scope each call
        # would leave a cycle to the collector.
        scope.task = None
        leave_if_child()
        self._conclude(scope, value, fault)

    def _start_on_a_thread(
        self, scope: Scope, target: Callable[..., Any], inputs: dict[str, Any]
    ) -> None:
        context = contextvars.copy_context()
        fault: dict[str, Any] | None = None

        def told(job: Job) -> None:
            nonlocal fault
            if job.error is not None:
                fault = _fault(scope, job.error)

        def ended(job: Job) -> None:
            scope.job = None
            self._conclude(scope, job.value, fault)

        scope.job = Job(lambda: context.run(target, inputs), told, ended)
        self._pool.submit(scope.job)

    def _conclude(self, scope: Scope, value: Any, fault: dict[str, Any] | None) -> None:
        """The call itself has ended; what it left behind is ended too."""
        call = scope.call
        scope.closed = True
        # Another call may wait there.
        for exchange in tuple(scope.exchanges or ()):
            exchange.interrupt()
        strays = scope.children and _at_work(scope.children)
        if strays:
            if fault is None:
                call.done(value)
            else:
                call.failed(fault)
            self._end_strays(scope, strays)
        elif fault is None:
            del self._scopes[scope.sequence]
            call.finished(value)
            self._check_stopped()
        else:
            # Settled first: the caller that gets the outcome finds its permit free.
            self._settle(scope, None)
            call.failed(fault)

    def _never_began(self, scope: Scope) -> None:
        scope.task = None
        self._settle(scope, None)
        scope.call.failed(faults.CANCELLED)

    def _end_strays(self, scope: Scope, strays: list[asyncio.Future]) -> None:
        """Cancels what the call left behind, and settles it when that has ended."""
        for stray in strays:
            if stray is not scope.broken:
                stray.cancel()
        self._settle_after(strays, scope, [_name_of(stray) for stray in strays])

    def _settle_after(self, strays: list[asyncio.Future], scope: Scope, names: list[str]) -> None:
        left = len(strays)

        def ended(_: asyncio.Future) -> None:
            nonlocal left
            left -= 1
            if left:
                return
            # One of them may have made another, which was cancelled as it was made.
            more = _at_work(scope.children or ())
            if more:
                self._settle_after(more, scope, [*names, *map(_name_of, more)])
            else:
                self._settle(scope, names)

        for stray in strays:
            stray.add_done_callback(ended)

    def _settle(self, scope: Scope, strays: list[str] | None) -> None:
        del self._scopes[scope.sequence]
        scope.call.settled(strays)
        self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stopping is not None and not self._scopes:
            self._all_settled.set()

    def scope_of(self, task: asyncio.Task) -> Scope | None:
        """The call that a task belongs to; for another thread to ask."""
        for scope in list(self._scopes.values()):
            if scope.task is task or task in (scope.children or ()):
                return scope
        return None

    def name_of(self, scope: Scope) -> str:
        """The program or function of a call."""
        return self._names.get(scope.target, "")

    def name_now(self) -> str | None:
        """The program that runs or is loaded here; for code that it calls to ask."""
        scope = current_scope()
        return self._loading if scope is None else self.name_of(scope)

    def _beat(self) -> None:
        leave_if_child()
        self.beaten = time.monotonic()
        self._port.beat()
        self._loop.call_later(HEARTBEAT, self._beat)

    async def _stop(self, grace: float) -> None:
        for sequence in list(self._scopes):
            self.cancel(sequence)
        if self._scopes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_settled.wait(), grace)
        for scope in self._scopes.values():
            scope.call.abandon()
        self._port.stopped()
        self._loop.stop()


def _fault(scope: Scope, error: BaseException) -> dict[str, Any]:
    """What a call failed of. Rust may have ended it before this loop hears of that."""
    if not _is_cancellation(error):
        return faults.describe(error)
    if scope.is_over():
        return faults.CANCELLED
    # Nobody asked: the program awaited something that was cancelled.
    return {**faults.describe(error), "kind": "raised"}


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancellation, error.exceptions))
    return isinstance(error, asyncio.CancelledError | Cancelled)


def _at_work(children: Iterable[asyncio.Future]) -> list[asyncio.Future]:
    # A copy, as threads may add to them meanwhile.
    return [
        child
        for child in tuple(children)
        if not (child.over if isinstance(child, ThreadOfCall) else child.done())
    ]


def _name_of(child: asyncio.Future) -> str:
    if isinstance(child, ThreadOfCall):
        return child.name
    coroutine = child.get_coro()
    return getattr(coroutine, "__qualname__", None) or child.get_name()
