"""The loads of a runner: one after another, each in steps.

A step that takes long is done on a thread, and calls of other programs go on meanwhile. Other loads
wait: two of them may have the same module, predictors or package to import. A load that takes
longer than a limit fails, so that they do not wait for good; its step may go on, on its thread. The
host passes with each load its own side of it:

    load.is_wanted()          whether its caller still waits
    load.resumed()            the load goes on in this turn of the loop
    load.loaded(description)  the program is loaded
    load.failed(fault)        it is not, see faults.describe
"""

import asyncio
import contextlib
import itertools
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tower_dspy import faults, program, trace_context
from tower_dspy.call_state import CURRENT_CALL
from tower_dspy.load_steps import Steps


@dataclass
class Target:
    """A program or function that was loaded."""

    name: str
    entry: Callable[[dict[str, Any]], Any]
    # Whether it is a sync program, which runs on a thread of the pool.
    blocking: bool
    # The name of its module, if it was loaded from source.
    source_module: str


class Loads:
    """The loads of one loop, and what they have loaded."""

    def __init__(self, host: Any, loop: asyncio.AbstractEventLoop, limit: float = math.inf) -> None:
        self._host = host
        self._loop = loop
        # In seconds, of one load.
        self._limit = limit
        self._numbers = itertools.count(1)
        self.targets: dict[int, Target] = {}
        # The program that is being loaded in this turn of the loop.
        self.current: str | None = None
        self._waiting: deque[_Load] = deque()
        # The loads of which a thread does a step; also of those that were given up meanwhile.
        self._on_threads: set[_Load] = set()
        self._under_way: _Load | None = None

    def add(self, spec: dict[str, Any], load: Any) -> None:
        """Loads a program or a function, now or after the loads that were added before."""
        added = _Load(spec["target"], self._steps(spec), load)
        if self._under_way is not None:
            self._waiting.append(added)
        else:
            self._under_way = added
            self._resume(added)

    def stop(self) -> None:
        """Gives all loads up. Their callers are told as the host's side of each is dropped."""
        for load in (self._under_way, *self._waiting):
            if load is not None:
                load.end()
        self._waiting.clear()

    def has_threads(self) -> bool:
        """Whether a thread does a step of a load: an import holds the GIL for long."""
        return bool(self._on_threads)

    def drop(self, target_id: int) -> None:
        """Drops a program. A module that was imported stays."""
        target = self.targets.pop(target_id, None)
        if target is not None:
            sys.modules.pop(target.source_module, None)

    def _steps(self, spec: dict[str, Any]) -> Steps[dict[str, Any]]:
        """The steps of a load, see program.loading_steps; returns the program's description."""
        name = spec["target"]
        blocking, described = False, {}
        if spec.get("function"):
            entry = program.load_function(spec)
        else:
            loaded = yield from program.loading_steps(self._host, spec)
            entry, blocking, described = loaded.entry(name), loaded.blocking, loaded.describe()
        module = "" if spec.get("source") is None else spec["module"]
        target_id = next(self._numbers)
        self.targets[target_id] = Target(name, entry, blocking, module)
        return {"id": target_id, **described}

    def _resume(
        self, load: "_Load", value: Any = None, failure: BaseException | None = None
    ) -> None:
        if load.host is None:
            return
        # An earlier start in this turn has set them.
        CURRENT_CALL.set(None)
        trace_context.leave()
        self.current = load.name
        is_over = True
        try:
            load.host.resumed()
            if load.timer is None and self._limit < math.inf:
                load.timer = self._loop.call_later(self._limit, self._end_late, load)
            step = load.steps.send(value) if failure is None else load.steps.throw(failure)
            name = f"load of {load.name}"
            self._on_threads.add(load)
            # Fails where the process may start no more threads.
            threading.Thread(target=self._do, args=(step, load), name=name, daemon=True).start()
            is_over = False
        except StopIteration as end:
            load.host.loaded(end.value)
        except BaseException as error:  # an import may raise any, SystemExit included
            load.host.failed(faults.describe(error))
        finally:
            self.current = None
            if is_over:
                self._on_threads.discard(load)
                load.end()
                self._begin_next()

    def _end_late(self, load: "_Load") -> None:
        """Fails a load whose step takes too long. What the step returns is dropped."""
        if load.host is None:
            return
        message = f"it took longer than {self._limit:g} s, the `load_limit` of the host's settings"
        load.host.failed(faults.describe(faults.HostError("elapsed", message)))
        load.end()
        with contextlib.suppress(BaseException):  # it runs the clean-up code of the load
            load.steps.close()
        self._begin_next()

    def _begin_next(self) -> None:
        """Begins the next load whose caller still waits."""
        self._under_way = None
        while self._waiting and self._under_way is None:
            load = self._waiting.popleft()
            if load.host.is_wanted():
                self._under_way = load
                # In a turn of its own, so that calls go on in between.
                self._loop.call_soon(self._resume, load)

    def _do(self, step: Callable[[], Any], load: "_Load") -> None:
        """Does a step of a load, on a thread, and has the load go on."""
        value = failure = None
        try:
            value = step()
        except BaseException as error:
            failure = error
        self._on_threads.discard(load)
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            self._loop.call_soon_threadsafe(self._resume, load, value, failure)


@dataclass(eq=False)
class _Load:
    name: str
    steps: Steps[dict[str, Any]]
    # The host's side of it; None once it is over or given up.
    host: Any
    timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        self.host = None
        if self.timer is not None:
            self.timer.cancel()
