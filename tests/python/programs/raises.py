"""Programs that fail in every way there is."""

from __future__ import annotations

import asyncio
import sys

import dspy
from dspy.utils.callback import BaseCallback


class NoAnswer(Exception):
    """An exception of the program's own module."""


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


async def own(key: str):
    raise NoAnswer(f"nothing about {key}")


async def mute(key: str):
    raise Mute


async def group(key: str):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(own(key))


async def caused(key: str):
    try:
        {}[key]
    except KeyError as error:
        raise RuntimeError("the lookup failed") from error


async def unasked(key: str):
    """Awaits a task that somebody else cancelled."""
    task = asyncio.create_task(asyncio.sleep(3600))
    task.cancel()
    await task


async def exits(key: str):
    sys.exit(3)


async def child_exits(key: str):
    await asyncio.create_task(exits(key))


async def stray_exits(key: str):
    asyncio.create_task(exits(key))  # noqa: RUF006
    await asyncio.sleep(0.01)
    return {"answer": "still here"}


async def callback_exits(key: str):
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.01)
    return {"answer": "still here"}


async def interrupts(key: str):
    raise KeyboardInterrupt


async def recurses(key: str):
    def deeper(n: int) -> int:
        return deeper(n + 1)

    return deeper(0)


class Module(dspy.Module):
    """A module that fails on the loop, through DSPy's callbacks."""

    def __init__(self) -> None:
        super().__init__(callbacks=[BaseCallback()])

    async def aforward(self, key: str):
        await asyncio.sleep(0)
        raise NoAnswer(f"nothing about {key}")


class SyncModule(dspy.Module):
    """The same on a thread, with a cause."""

    def forward(self, key: str):
        try:
            self.inner(key)
        except NoAnswer as error:
            raise RuntimeError("the lookup failed") from error

    def inner(self, key: str):
        return Inner()(key=key)


class Inner(dspy.Module):
    def forward(self, key: str):
        raise NoAnswer(f"nothing about {key}")
