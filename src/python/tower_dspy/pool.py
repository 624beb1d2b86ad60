"""A bounded pool of threads for sync programs and for the functions of `asyncio.to_thread`.

Jobs beyond the number of threads wait in a queue. A job that is cancelled is interrupted at once.
If it has not ended after the grace it is interrupted again, and soon after that its thread is
abandoned: taken out of the pool, counted, and replaced by a new one. Python cannot end a thread, so
only so many are replaced: past that number the pool shrinks, and the host takes no more sync calls
until an abandoned thread ends.

All methods are called on the loop's thread. The host counts:

    host.gave_up(replaced)    a thread was abandoned, and perhaps replaced
    host.came_back()          an abandoned thread has ended
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from tower_dspy.call_state import Cancelled
from tower_dspy.fork_guard import exit_if_forked_child
from tower_dspy.interrupt import InterruptibleRun

SIZE = 64
GRACE = 5.0  # seconds
MOST_ABANDONED = 16
# Seconds from the second interrupt to abandoning the thread; a thread that stops needs far less.
_PATIENCE = 0.1


def _ignore(_: "Job") -> None:
    pass


@dataclass(slots=True, eq=False)
class Job(InterruptibleRun):
    """A function for a pool, with callbacks for its result and for its end."""

    # The function has returned or raised; called on the job's thread.
    on_result: "Callable[[Job], None]" = _ignore
    # The thread is free again, or was never needed; called on the loop.
    on_end: "Callable[[Job], None]" = _ignore
    thread: "_PoolThread | None" = None
    timer: asyncio.TimerHandle | None = None
    over: bool = False

    def is_at_work(self) -> bool:
        """Whether its function was given to a thread and has not ended. For any thread."""
        return self.thread is not None and self.function is not None

    def end(self) -> None:
        """Ends the job, on the loop."""
        self.over = True
        if self.timer is not None:
            self.timer.cancel()
        on_end, self.on_result, self.on_end = self.on_end, _ignore, _ignore
        on_end(self)

    def refuse(self, error: BaseException) -> None:
        """Ends the job with an error instead of running it."""
        self.error = error
        self.on_result(self)
        self.end()


@dataclass(eq=False)
class Pool:
    """The threads of one kind of work."""

    host: Any
    loop: asyncio.AbstractEventLoop
    name: str
    size: int = SIZE
    grace: float = GRACE
    most_abandoned: int = MOST_ABANDONED
    _threads: int = 0
    _idle: "list[_PoolThread]" = field(default_factory=list)
    _waiting: deque[Job] = field(default_factory=deque)
    _abandoned: int = 0

    def submit(self, job: Job) -> None:
        """Runs a job as soon as a thread is free."""
        if self._idle:
            self._idle.pop().take(job)
        elif self._threads < self.size:
            self._begin(job)
        else:
            self._waiting.append(job)

    def cancel(self, job: Job) -> None:
        """Interrupts a job, once. A job that waits in the queue does not run."""
        if job.over or job.timer is not None:
            return
        if job.thread is None:
            job.cancelled = True
            self._waiting.remove(job)
            job.refuse(Cancelled("cancelled before it began"))
            return
        job.interrupt()
        job.timer = self.loop.call_later(self.grace, self._interrupt_again, job)

    def ended(self, thread: "_PoolThread", job: Job) -> None:
        """Gives the thread of a job that has ended its next job."""
        if thread.abandoned:
            thread.abandoned = False
            self._abandoned -= 1
            self.host.came_back()
        if thread.replaced:
            thread.inbox.put(None)
        elif self._waiting:
            thread.take(self._waiting.popleft())
        else:
            self._idle.append(thread)
        job.end()

    def _begin(self, job: Job) -> None:
        try:
            thread = _PoolThread(self, f"{self.name}-{self._threads}")
        except RuntimeError as error:  # the system has no thread left
            if self._threads:
                self._waiting.append(job)
            else:
                job.refuse(error)
            return
        self._threads += 1
        thread.take(job)

    def _interrupt_again(self, job: Job) -> None:
        job.interrupt_again()
        job.timer = self.loop.call_later(_PATIENCE, self._abandon, job)

    def _abandon(self, job: Job) -> None:
        thread = job.thread
        if thread is None or job.over:
            return
        job.timer = None
        thread.abandoned = True
        self._abandoned += 1
        thread.replaced = self._abandoned <= self.most_abandoned
        self.host.gave_up(thread.replaced)
        if thread.replaced:
            self._threads -= 1
            if self._waiting:
                self._begin(self._waiting.popleft())


class _PoolThread:
    """One thread of the pool, with a queue of its own."""

    __slots__ = ("_pool", "abandoned", "inbox", "replaced")

    def __init__(self, pool: Pool, name: str) -> None:
        self.inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._pool = pool
        self.abandoned = self.replaced = False
        # A daemon, so that the interpreter's exit does not join it.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def take(self, job: Job) -> None:
        job.thread = self
        self.inbox.put(job)

    def _work(self) -> None:
        # The threads that a program makes inherit it, and daemons are not part of their call.
        threading.current_thread()._daemonic = False
        loop = self._pool.loop
        while (job := self.inbox.get()) is not None:
            job.execute()
            exit_if_forked_child()
            job.on_result(job)
            with contextlib.suppress(RuntimeError):  # the loop may be closed by then
                loop.call_soon_threadsafe(self._pool.ended, self, job)
            del job  # it is not kept until the next one comes
