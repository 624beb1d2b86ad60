"""Functions that clean up after themselves, without DSPy."""

from __future__ import annotations

import asyncio

from witness import clean_up, note, thread_gate


async def slow(key: str):
    """Cleans up for as long as the gate is shut, and notes a clean-up that is cut short."""
    note(key, "running")
    try:
        await asyncio.sleep(3600)
    finally:
        await clean_up(key)


async def brief(key: str):
    """Cleans up in a few turns of the loop, with a task of its own."""
    note(key, "running")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.wait_for(asyncio.sleep(0.01), 10)
        note(key, "cleaned")


async def swallows(key: str):
    note(key, "running")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return {"answer": "nevertheless"}


async def in_a_thread(key: str):
    """Blocks a thread until the test opens its gate."""

    def wait() -> None:
        thread_gate(key).note_and_wait(key, "running")
        note(key, "thread ended")

    await asyncio.to_thread(wait)
    return {}
