"""Programs that hold the loop up, for the tests of Python's room alone."""

from __future__ import annotations

import asyncio
import ctypes
import time

from witness import gate, note


async def blocks(seconds: float):
    time.sleep(seconds)
    return {"blocked": True}


def spin() -> None:
    while True:
        pass


async def spins_and_waits(key: str):
    try:
        spin()
    finally:
        note(key, "cleaning")
        await gate(key)
        note(key, "cleaned")


async def swallows(key: str, times: int):
    for _ in range(times):
        try:
            spin()
        except BaseException:
            note(key, "swallowed")


async def child_spins(key: str):
    async def child() -> None:
        try:
            spin()
        finally:
            note(key, "child ended")

    await asyncio.create_task(child())


async def holds_the_gil(seconds: float):
    # Unlike CDLL it keeps the GIL.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return {}
