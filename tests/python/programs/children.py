"""Programs that start processes by `multiprocessing`, and do not end them."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor

# Kept, as a program's module keeps an executor for all calls.
_kept: list[object] = []


def _ignores_sigterm(begun: multiprocessing.synchronize.Event) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begun.set()
    time.sleep(3600)


def _is_there() -> int:
    return os.getpid()


def _works(path: str) -> None:
    with open(path, "w", encoding="ascii"):
        time.sleep(3600)


async def start(method: str, path: str) -> list[int]:
    """An executor that is idle, one that works, a pool and a process that ignores SIGTERM."""
    context = multiprocessing.get_context(method)
    loop = asyncio.get_running_loop()
    idle = ProcessPoolExecutor(1, mp_context=context)
    await loop.run_in_executor(idle, _is_there)
    busy = ProcessPoolExecutor(1, mp_context=context)
    job: Future[None] = busy.submit(_works, path)
    pool = context.Pool(2)
    pool.apply_async(time.sleep, (3600,))
    begun = context.Event()
    stubborn = context.Process(target=_ignores_sigterm, args=(begun,))
    stubborn.start()
    await asyncio.to_thread(begun.wait, 60)
    while not os.path.exists(path):
        await asyncio.sleep(0.01)
    _kept.extend([idle, busy, job, pool, stubborn])
    return [child.pid for child in multiprocessing.active_children()]
