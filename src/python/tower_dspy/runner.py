"""Runs calls on one asyncio loop for a port.

The runner knows nothing of how it is reached. A port (the embedded interpreter, or the socket of
a worker process) calls `load`, `start`, `cancel` and `stop` on the loop's thread, and offers:

    port.done(call_id, value)         the call's outcome is `value`
    port.failed(call_id, fault)       its outcome is a failure, see faults.describe
    port.settled(call_id, strays)     all that the call made has ended; names of forgotten tasks
    port.beat()                       the loop is alive
    port.stopped()                    nothing runs any more

Invariants:
1. Each started call gets exactly one outcome, and after it exactly one `settled`.
2. `task.cancel()` is sent once for a call: a second one would cut its clean-up short.
3. A call is settled when its task and every task made by its code have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any

from tower_dspy import faults, program
from tower_dspy.scope import SCOPE, Scope

HEARTBEAT = 0.020  # seconds


class Runner:
    """The calls of one loop."""

    def __init__(self, port: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._port = port
        self._loop = loop
        self._context = contextvars.copy_context()
        self._scopes: dict[int, Scope] = {}
        self._targets: dict[int, Callable[[dict[str, Any]], Any]] = {}
        self._stopping = False
        self._all_settled = asyncio.Event()
        self._beat()

    def load(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Loads a program or a function; raises what its import raises."""
        target_id = len(self._targets) + 1
        if spec.get("function"):
            self._targets[target_id] = program.load_function(spec)
            return {"id": target_id}
        loaded = program.load(spec)
        self._targets[target_id] = loaded
        return {"id": target_id, **loaded.describe()}

    def start(
        self, call_id: int, target_id: int, inputs: dict[str, Any], remaining: float | None
    ) -> None:
        """Starts a call; its outcome comes through the port."""
        scope = Scope(call_id, remaining)
        context = self._context.copy()
        context.run(SCOPE.set, scope)
        try:
            coroutine = self._targets[target_id](inputs)
        except Exception as error:  # such as a wrong keyword of a plain function
            self._port.failed(call_id, faults.describe(error))
            self._port.settled(call_id, None)
            return
        # Not through the loop's factory: the call's own task is not one of its children.
        scope.task = task = asyncio.Task(coroutine, loop=self._loop, context=context)
        self._scopes[call_id] = scope
        task.add_done_callback(partial(self._done, scope))

    def cancel(self, call_id: int) -> None:
        """Signals a call to stop, once."""
        scope = self._scopes.get(call_id)
        if scope is not None and not scope.cancelled:
            scope.cancelled = True
            if scope.task is not None:
                scope.task.cancel()

    def stop(self, grace: float) -> None:
        """Cancels all calls, waits up to `grace` seconds for them, then stops the loop."""
        if not self._stopping:
            self._stopping = True
            self._stop_task = asyncio.Task(self._stop(grace), loop=self._loop)

    def _done(self, scope: Scope, task: asyncio.Task) -> None:
        scope.task = None
        call_id = scope.call_id
        try:
            value = task.result()
        except asyncio.CancelledError as error:
            fault = faults.describe(error)
            if not scope.cancelled:
                # Nobody asked: the program awaited something that was cancelled.
                fault["kind"] = "raised"
            self._port.failed(call_id, fault)
        except BaseException as error:
            self._port.failed(call_id, faults.describe(error))
        else:
            self._port.done(call_id, value)
        if scope.children:
            self._end_strays(scope)
        else:
            scope.closed = True
            self._settle(scope, None)

    def _end_strays(self, scope: Scope) -> None:
        scope.closed = True
        strays = [child for child in scope.children or () if not child.done()]
        if not strays:
            self._settle(scope, None)
            return
        names = [_name_of(child) for child in strays]
        left = len(strays)

        def ended(_: asyncio.Task) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                # One of them may have made another, which was cancelled as it was made.
                self._settle_when_alone(scope, names)

        for child in strays:
            child.add_done_callback(ended)
            child.cancel()

    def _settle_when_alone(self, scope: Scope, names: list[str]) -> None:
        rest = [child for child in scope.children or () if not child.done()]
        if rest:
            names.extend(_name_of(child) for child in rest)
            rest[0].add_done_callback(lambda _: self._settle_when_alone(scope, names))
        else:
            self._settle(scope, names)

    def _settle(self, scope: Scope, strays: list[str] | None) -> None:
        del self._scopes[scope.call_id]
        self._port.settled(scope.call_id, strays)
        if self._stopping and not self._scopes:
            self._all_settled.set()

    def _beat(self) -> None:
        self._port.beat()
        self._loop.call_later(HEARTBEAT, self._beat)

    async def _stop(self, grace: float) -> None:
        for call_id in list(self._scopes):
            self.cancel(call_id)
        if self._scopes:
            # What is left then is counted by the port, which still knows of it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_settled.wait(), grace)
        self._port.stopped()
        self._loop.stop()


def _name_of(task: asyncio.Task) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or task.get_name()
