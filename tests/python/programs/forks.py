"""Children that programs fork by `multiprocessing`."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import time


def _sleep(begun: multiprocessing.synchronize.Event) -> None:
    begun.set()
    time.sleep(3600)


def _end_by_handler() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3600)


async def end_by_sigterm() -> list[int | None]:
    """How children end that get SIGTERM: one without a handler, and one that sets its own."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    sleeps = context.Process(target=_sleep, args=(begun,))
    sleeps.start()
    begun.wait(30)
    sleeps.terminate()
    handles = context.Process(target=_end_by_handler)
    handles.start()
    for child in (sleeps, handles):
        await asyncio.to_thread(child.join, 20)
    return [sleeps.exitcode, handles.exitcode]
