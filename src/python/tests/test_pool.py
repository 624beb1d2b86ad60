import asyncio
import threading

import pytest
from fakes import FakeHost, eventually

from tower_dspy.call_state import Cancelled
from tower_dspy.pool import Job, Pool

pytestmark = pytest.mark.asyncio


class Work:
    """A job that lasts until its gate is open, whatever it is told."""

    def __init__(self, pool: Pool) -> None:
        self.began, self.gate, self.over = threading.Event(), threading.Event(), asyncio.Event()
        self.job = Job(self._run, on_end=lambda _: self.over.set())
        self.swallowed = 0
        pool.submit(self.job)

    def _run(self) -> str:
        self.began.set()
        while not self.gate.is_set():
            try:
                self.gate.wait(0.001)
            except BaseException:
                self.swallowed += 1
        return "done"

    async def end(self) -> None:
        self.gate.set()
        async with asyncio.timeout(30):
            await self.over.wait()


def pool(**options) -> tuple[FakeHost, Pool]:
    host = FakeHost()
    return host, Pool(host, asyncio.get_running_loop(), "test", **options)


async def test_jobs_wait_for_a_thread_and_threads_are_reused():
    _, few = pool(size=2)
    works = [Work(few) for _ in range(4)]
    await eventually(lambda: works[0].began.is_set() and works[1].began.is_set())
    assert not works[2].began.is_set()
    await works[0].end()
    await eventually(lambda: works[2].began.is_set())
    assert not works[3].began.is_set()
    for work in works[1:]:
        await work.end()
    assert [work.job.value for work in works] == ["done"] * 4


async def test_a_job_that_waits_is_cancelled_at_once_and_never_begins():
    _, one = pool(size=1)
    first, second = Work(one), Work(one)
    one.cancel(second.job)
    assert second.over.is_set()
    assert isinstance(second.job.error, Cancelled)
    await first.end()
    assert not second.began.is_set()


async def test_a_thread_that_does_not_end_is_interrupted_twice_abandoned_and_replaced():
    # The second signal would replace the first if the thread had not run for all of the grace.
    host, one = pool(size=1, grace=2.0, most_abandoned=1)
    stuck, next_one = Work(one), Work(one)
    await eventually(stuck.began.is_set)
    one.cancel(stuck.job)
    one.cancel(stuck.job)
    await eventually(lambda: host.abandoned == 1)
    assert host.replaced == 1
    await eventually(lambda: stuck.swallowed == 2)
    await eventually(next_one.began.is_set)
    await next_one.end()
    assert not stuck.over.is_set()
    await stuck.end()
    assert host.abandoned == 0


async def test_above_the_limit_the_pool_shrinks_until_an_abandoned_thread_ends():
    host, one = pool(size=1, grace=0.01, most_abandoned=0)
    stuck, waits = Work(one), Work(one)
    await eventually(stuck.began.is_set)
    one.cancel(stuck.job)
    await eventually(lambda: host.abandoned == 1)
    assert host.replaced == 0
    assert not waits.began.is_set()
    await stuck.end()
    assert host.abandoned == 0
    await eventually(waits.began.is_set)
    await waits.end()


async def test_a_thread_that_ends_within_the_grace_is_kept():
    host, one = pool(size=1, grace=3600)
    work = Work(one)
    await eventually(work.began.is_set)
    one.cancel(work.job)
    await eventually(lambda: work.swallowed == 1)
    await work.end()
    again = Work(one)
    await again.end()
    assert (host.abandoned, host.replaced, again.job.value) == (0, 0, "done")


async def test_a_job_fails_if_no_thread_can_be_started(monkeypatch):
    def refuse(_) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    _, one = pool(size=1)
    work = Work(one)
    assert work.over.is_set()
    assert isinstance(work.job.error, RuntimeError)
