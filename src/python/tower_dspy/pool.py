"""Threads for code that is not async: sync programs, and what programs hand to `to_thread`.

The number of threads is bounded; work beyond it waits for its turn. A job that is told to stop gets
its signal at once. If it has not ended when the grace is over it is told again, and soon after that
its thread is given up: taken out of the pool, counted, and replaced by another one so that the
others go on. Python has no way to end a thread, so only so many are replaced: past that number the
pool shrinks, and the host takes no more sync calls until one of them ends.

All methods are called on the loop's thread. The port counts:

    port.gave_up(replaced)    a thread was abandoned, and perhaps replaced
    port.came_back()          an abandoned thread has ended
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from tower_dspy.forks import leave_if_child
from tower_dspy.interrupt import Stint
from tower_dspy.scope import Cancelled

SIZE = 64
GRACE = 5.0  # seconds
MOST_ABANDONED = 16
# Between the second signal and giving the thread up: a thread that heeds it needs far less.
_PATIENCE = 0.1


class Job(Stint):
    """Work for a pool: what it is, and who hears of its end, first on its thread, then the loop."""

    __slots__ = ("_ended", "_told", "alarm", "over", "worker")

    def __init__(
        self,
        function: Callable[[], Any],
        told: Callable[[Job], None] | None = None,
        ended: Callable[[Job], None] | None = None,
    ) -> None:
        super().__init__(function)
        self.worker: _Worker | None = None
        self.alarm: asyncio.TimerHandle | None = None
        self.over = False
        self._told = told
        self._ended = ended

    def tell(self) -> None:
        """On the job's thread: its function has returned or raised."""
        if self._told is not None:
            self._told(self)

    def end(self) -> None:
        """On the loop: its thread is free again, or has never begun."""
        self.over = True
        if self.alarm is not None:
            self.alarm.cancel()
        ended, self._told, self._ended = self._ended, None, None
        if ended is not None:
            ended(self)


class Pool:
    """The threads of one kind of work."""

    def __init__(
        self,
        port: Any,
        loop: asyncio.AbstractEventLoop,
        name: str,
        size: int = SIZE,
        grace: float = GRACE,
        most_abandoned: int = MOST_ABANDONED,
    ) -> None:
        self.loop = loop
        self._port = port
        self._name = name
        self._size = size
        self._grace = grace
        self._most_abandoned = most_abandoned
        self._threads = 0
        self._idle: list[_Worker] = []
        self._waiting: deque[Job] = deque()
        self._abandoned = 0

    def submit(self, job: Job) -> None:
        """Runs a job as soon as there is a thread for it."""
        if self._idle:
            self._idle.pop().take(job)
        elif self._threads < self._size:
            self._begin(job)
        else:
            self._waiting.append(job)

    def cancel(self, job: Job) -> None:
        """Tells a job to stop, once. One that has not begun never does."""
        if job.over or job.alarm is not None:
            return
        if job.worker is None:
            job.cancelled = True
            self._waiting.remove(job)
            job.error = Cancelled("cancelled before it began")
            job.tell()
            job.end()
            return
        job.interrupt()
        job.alarm = self.loop.call_later(self._grace, self._insist, job)

    def ended(self, worker: _Worker, job: Job) -> None:
        """A worker is through with a job."""
        if worker.abandoned:
            worker.abandoned = False
            self._abandoned -= 1
            self._port.came_back()
        if worker.replaced:
            worker.dismiss()
        elif self._waiting:
            worker.take(self._waiting.popleft())
        else:
            self._idle.append(worker)
        job.end()

    def _begin(self, job: Job) -> None:
        try:
            worker = _Worker(self, f"{self._name}-{self._threads}")
        except RuntimeError as error:  # the system has no thread left
            if self._threads:
                self._waiting.append(job)
                return
            job.error = error
            job.tell()
            job.end()
            return
        self._threads += 1
        worker.take(job)

    def _insist(self, job: Job) -> None:
        job.insist()
        job.alarm = self.loop.call_later(_PATIENCE, self._abandon, job)

    def _abandon(self, job: Job) -> None:
        worker = job.worker
        if worker is None or job.over:
            return
        job.alarm = None
        worker.abandoned = True
        self._abandoned += 1
        worker.replaced = self._abandoned <= self._most_abandoned
        self._port.gave_up(worker.replaced)
        if worker.replaced:
            self._threads -= 1
            if self._waiting:
                self._begin(self._waiting.popleft())


class _Thread(Thread):
    """A daemon as it starts, so that no exit waits for it, and none once it runs.

    Threads that a program makes inherit that, and are part of its call if they are no daemons.
    """

    _runs = False

    @property
    def daemon(self) -> bool:
        return not self._runs

    def run(self) -> None:
        self._runs = True
        super().run()


class _Worker:
    """One thread."""

    __slots__ = ("_inbox", "_pool", "abandoned", "replaced")

    def __init__(self, pool: Pool, name: str) -> None:
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._pool = pool
        self.abandoned = self.replaced = False
        _Thread(target=self._work, name=name).start()

    def take(self, job: Job) -> None:
        job.worker = self
        self._inbox.put(job)

    def dismiss(self) -> None:
        self._inbox.put(None)

    def _work(self) -> None:
        loop = self._pool.loop
        while (job := self._inbox.get()) is not None:
            job.run()
            leave_if_child()
            job.tell()
            with contextlib.suppress(RuntimeError):  # the loop may be closed by then
                loop.call_soon_threadsafe(self._pool.ended, self, job)
            del job  # what it holds is not kept until the next one comes
