"""The runner: the calls of programs on one asyncio loop.

The runner does not depend on how its host is reached. The host (the embedded interpreter's Rust
side, or host_proxy.py in a worker process) calls `load`, `unload`, `start`, `cancel` and `stop` on
the loop's thread. It offers

    host.beat()               the loop is alive
    host.gave_up(replaced)    a thread was abandoned, see pool.py
    host.came_back()          an abandoned thread has ended

passes with each load its own side of it, see loads.py, and with each start its own side of
the call:

    call.done(value)          the outcome is `value`
    call.failed(fault)        the outcome is a failure, see faults.describe
    call.stopped()            the outcome is that it was cancelled
    call.settled(strays)      all tasks, threads and processes have ended; names of those that were
                              left behind; None if there were none, and the outcome follows at once
    call.abandon(working)     the loop ends before the call did; whether threads or processes of it
                              go on, and `settled` follows when they have ended, on another thread
    call.cancel()             the call is cancelled: its LM connections close, if they have not yet
    call.is_over()            whether it may call no LM any more
    call.timed_out()          whether a limit of time ended it, once it is over
    call.partial(fields)      a partial answer; false if no caller waits for one any more
    call.stepped(exchange, counts)
                              an LM call has ended, with its last exchange, if it went through the
                              host, and its tokens as DSPy reads them
    call.tool_began(number, name), call.tool_ended(number, failed)
                              a tool of the program's is called, see patches/tools.py
    call.trace()              W3C's headers of the trace that the call is part of, or None
    call.bypassed(lm)         an LM call bypassed the host, see patches/lm_hooks.py and httpx.py

A call that is streamed has a stream, see call_stream.py. HTTP requests go through the host as well,
see exchange.py.

Invariants:
1. Each started call gets exactly one outcome and exactly one `settled`: after the outcome if the
   call left tasks or threads behind, before it if not.
2. A call is signalled once, by `task.cancel()` or on its thread: a second signal would cut its
   clean-up short. Code that is refused a step sends it, if the host's cancel has not come yet.
3. A call is settled when its task or its job, every task made by its code and every thread that
   these wait for have ended, and so have, if the host ended it, its processes.
"""

import asyncio
import contextlib
import contextvars
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from tower_dspy import faults, trace_context
from tower_dspy.call_process import CallProcess
from tower_dspy.call_state import CURRENT_CALL, CallState, Cancelled, current_call
from tower_dspy.call_work import CallWork
from tower_dspy.error_frames import clear_frames
from tower_dspy.fork_guard import exit_if_forked_child
from tower_dspy.interrupt import shield_here, unshield_here
from tower_dspy.loads import Loads
from tower_dspy.pool import Job, Pool

HEARTBEAT = 0.020  # seconds
# Between two looks at the threads and processes that a stopped loop has left.
_LOOK = 0.050  # seconds


class Runner:
    """The calls of one loop."""

    def __init__(
        self, host: Any, loop: asyncio.AbstractEventLoop, pool: Pool, load_limit: float = math.inf
    ) -> None:
        self._host = host
        self._loop = loop
        self._pool = pool
        self._calls: dict[int, CallState] = {}
        self._loads = Loads(host, loop, load_limit)
        # The time of the last heartbeat.
        self.beaten = time.monotonic()
        self._stopping: asyncio.Task | None = None
        self._all_settled = asyncio.Event()
        self._stopped = False
        self._beat()

    def load(self, spec: dict[str, Any], load: Any) -> None:
        """Loads a program or a function, see loads.py."""
        self._loads.add(spec, load)

    def is_loading_on_thread(self) -> bool:
        """Whether a load does a step on a thread, see loads.py."""
        return self._loads.has_threads()

    def unload(self, target_id: int) -> None:
        """Drops a program. A module that was imported stays."""
        self._loads.drop(target_id)

    def start(
        self,
        sequence: int,
        call: Any,
        target_id: int,
        inputs: dict[str, Any],
        remaining: float | None,
    ) -> None:
        """Starts a call."""
        target = self._loads.targets[target_id]
        state = CallState(sequence, call, remaining, target.name, runner=self)
        self._calls[sequence] = state
        # The task copies this context, and so does each task that it makes. Setting its variables
        # here costs less than copying a context, and the next start sets them again.
        CURRENT_CALL.set(state)
        trace_context.enter(call)
        if target.blocking:
            self._start_on_thread(state, target.entry, inputs)
            return
        # Not by the loop's factory: the call's own task is not one of its children.
        state.task = asyncio.Task(
            self._serve(state, target.entry, inputs),
            loop=self._loop,
            name="tower-dspy-call",  # a default name is formatted for each
        )

    def cancel(self, sequence: int) -> None:
        """Cancels a call, once."""
        state = self._calls.get(sequence)
        if state is None or state.cancelled:
            return
        state.cancelled = True
        state.call.cancel()
        task = state.task
        if task is not None:
            if task is not state.interrupted_task:
                task.cancel()
            if not state.begun:
                # Its code will not run, and so cannot report the outcome.
                task.add_done_callback(lambda _: self._conclude(state, None, faults.CANCELLED))
        elif state.job is not None:
            self._pool.cancel(state.job)
        else:
            return
        # Its children may wait for LMs whose connections are closed, or be threads or processes;
        # the call may wait for them.
        for exchange in tuple(state.exchanges):
            exchange.interrupt()
        told: set[asyncio.Future] = set()
        # Threads that are not told yet may start others meanwhile.
        while untold := set(tuple(state.children)) - told:
            for child in sorted(untold, key=_is_process):
                if isinstance(child, CallWork) and not _is_of_clean_up(child):
                    child.cancel()
            told |= untold

    def stop(self, grace: float) -> None:
        """Cancels all calls, waits up to `grace` seconds for them, then stops the loop."""
        if self._stopping is None:
            # Or its tasks would belong to the last call that was started.
            CURRENT_CALL.set(None)
            trace_context.leave()
            self._stopping = asyncio.Task(self._stop(grace), loop=self._loop)

    def is_stopped(self) -> bool:
        """Whether nothing runs any more."""
        return self._stopped

    async def _serve(self, state: CallState, target: Callable[..., Any], inputs: dict) -> None:
        # The outcome is reported here and not by a callback: that saves a turn of the loop.
        state.begun = True
        value = fault = None
        try:
            try:
                value = await target(inputs)
            finally:
                # A wait that was ended may raise before its signal does. No later one may keep the
                # outcome from being reported.
                shield_here()
        except BaseException as error:
            # Also SystemExit and KeyboardInterrupt, which would end the loop.
            fault = _fault(state, error)
            clear_frames(error)
        try:
            exit_if_forked_child()
            self._conclude(state, value, fault)
        finally:
            unshield_here()

    def _start_on_thread(
        self, state: CallState, target: Callable[..., Any], inputs: dict[str, Any]
    ) -> None:
        context = contextvars.copy_context()
        fault: dict[str, Any] | None = None

        def on_result(job: Job) -> None:
            nonlocal fault
            if job.error is not None:
                fault = _fault(state, job.error)
                clear_frames(job.error)
                # The frames of its traceback refer to the job.
                job.error = None

        def on_end(job: Job) -> None:
            self._conclude(state, job.value, fault)

        state.job = Job(lambda: context.run(target, inputs), on_result=on_result, on_end=on_end)
        self._pool.submit(state.job)

    def _conclude(self, state: CallState, value: Any, fault: dict[str, Any] | None) -> None:
        """Reports the outcome of a call, and ends the work that it left behind."""
        # There is nothing left to cancel. The task's context refers to the state, so keeping the
        # task would leave a reference cycle.
        state.task = state.job = None
        call = state.call
        state.ended_by_host = state.is_over()
        state.closed = True
        # The code of another call may wait for them.
        for exchange in tuple(state.exchanges):
            exchange.interrupt()
        strays = _running(state.children)
        if not strays:
            # Settled first: the permit is free when the caller gets the outcome.
            self._settle(state, None)
        if fault is None:
            call.done(value)
        elif fault is faults.CANCELLED:
            call.stopped()
        else:
            call.failed(fault)
        if strays:
            for stray in sorted(strays, key=_is_process):
                if stray is not state.interrupted_task:
                    stray.cancel()
            self._settle_after(state, strays, [])

    def _settle_after(
        self, state: CallState, strays: list[asyncio.Future], names: list[str]
    ) -> None:
        """Settles a call when its strays have ended. Not by a task: programs may cancel all."""
        names += map(_child_name, strays)
        left = len(strays)

        def ended(_: asyncio.Future) -> None:
            nonlocal left
            left -= 1
            # They may have started others, which were cancelled at once.
            if left == 0 and (more := _running(state.children)):
                self._settle_after(state, more, names)
            elif left == 0:
                self._settle(state, names)

        for stray in strays:
            stray.add_done_callback(ended)

    def _settle(self, state: CallState, strays: list[str] | None) -> None:
        del self._calls[state.sequence]
        # Processes that are left alone.
        state.children.clear()
        # Answers that the call left unread: the host would keep their listeners.
        for exchange in tuple(state.exchanges):
            exchange.abort()
        if self._stopping is not None and not self._calls:
            self._all_settled.set()
        state.call.settled(strays)

    def call_of(self, task: asyncio.Task) -> CallState | None:
        """The call that a task belongs to. May be called on any thread."""
        for state in list(self._calls.values()):
            if state.task is task or task in state.children:
                return state
        return None

    def current_program(self) -> str | None:
        """The name of the program that this code runs for, or that is being loaded."""
        state = current_call()
        return self._loads.current if state is None else state.program

    def _beat(self) -> None:
        exit_if_forked_child()
        self.beaten = time.monotonic()
        self._host.beat()
        self._loop.call_later(HEARTBEAT, self._beat)

    async def _stop(self, grace: float) -> None:
        self._loads.stop()
        for sequence in list(self._calls):
            self.cancel(sequence)
        if self._calls:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_settled.wait(), grace)
        working = []
        for state in self._calls.values():
            for child in tuple(state.children):
                if isinstance(child, CallProcess):
                    child.kill()
            works = _works(state)
            state.call.abandon(bool(works))
            if works:
                working.append((state, works))
        if working:
            # Their end is noticed by no loop.
            name = "tower-dspy-abandoned"
            threading.Thread(
                target=_settle_abandoned, args=(working,), name=name, daemon=True
            ).start()
        self._stopped = True
        self._loop.stop()


def _works(state: CallState) -> list[str]:
    """The names of the call's threads and processes. May be called on any thread."""
    children = [child for child in _running(state.children) if isinstance(child, CallWork)]
    own = [state.program] if state.job is not None and state.job.is_at_work() else []
    return [*own, *map(_child_name, children)]


def _settle_abandoned(left: list[tuple[CallState, list[str]]]) -> None:
    """Settles calls whose loop has ended, as their threads and processes end."""
    while left:
        time.sleep(_LOOK)
        at_work = [(state, names) for state, names in left if _works(state)]
        for state, names in left:
            if (state, names) not in at_work:
                state.call.settled(names)
        left = at_work


def _fault(state: CallState, error: BaseException) -> dict[str, Any]:
    """The failure of a call, which the host may have ended before this loop knows."""
    if not _is_cancellation(error):
        return faults.describe(error)
    if state.is_over():
        return faults.CANCELLED
    # Not cancelled by the host: the program awaited a cancelled task or future.
    return {**faults.describe(error), "kind": "raised"}


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancellation, error.exceptions))
    return isinstance(error, asyncio.CancelledError | Cancelled)


def _is_of_clean_up(child: CallWork) -> bool:
    return isinstance(child, CallProcess) and child.of_clean_up


def _is_process(child: asyncio.Future) -> bool:
    """Processes are told last: a thread that waits for one is signalled before that ends."""
    return isinstance(child, CallProcess)


def _running(children: Iterable[asyncio.Future]) -> list[asyncio.Future]:
    # A copy, as threads may add children meanwhile.
    return [
        child
        for child in tuple(children)
        if not (child.is_over() if isinstance(child, CallWork) else child.done())
    ]


def _child_name(child: asyncio.Future) -> str:
    if isinstance(child, CallWork):
        return child.name
    coroutine = child.get_coro()
    return getattr(coroutine, "__qualname__", None) or child.get_name()
