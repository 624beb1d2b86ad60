"""Programs that hold the loop, or the GIL, up."""

from __future__ import annotations

import asyncio

import dspy

from witness import gate, hold_gil, note


async def spins(key: str):
    """Never gives the loop back, and cleans up in several turns of it."""
    try:
        note(key, "spinning")
        while True:
            pass
    finally:
        note(key, "cleaning")
        await asyncio.sleep(0.01)
        note(key, "cleaned")


async def swallows_and_waits(key: str):
    """Swallows its cancellation and waits for something else, with the loop idle."""
    note(key, "waiting")
    try:
        await gate(key)
    except asyncio.CancelledError:
        note(key, "swallowed")
        await gate(key)
    return {}


class HoldsTheGil(dspy.Module):
    def forward(self, port: int):
        hold_gil(port)
        return {}
