"""Programs that need as deep a stack as the main thread of `python` has."""

from __future__ import annotations

import asyncio
import select

import dspy


class _Nested:
    """Its `fileno` takes 50 KiB of stack for each level: `select` keeps its files there.

    So a few levels are enough. Python 3.12 counts those that pass through C code, and no recursion
    limit raises what it allows: some 1500.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def fileno(self) -> int:
        if self.depth > 0:
            select.select([_Nested(self.depth - 1)], [], [], 0)
        return 0


def _descend(depth: int) -> dict[str, str]:
    _Nested(depth).fileno()
    return {"answer": "bottom"}


class OnTheLoop(dspy.Module):
    async def aforward(self, depth: int):
        return _descend(depth)


class OnAThread(dspy.Module):
    def forward(self, depth: int):
        return _descend(depth)


class InTheExecutor(dspy.Module):
    async def aforward(self, depth: int):
        return await asyncio.to_thread(_descend, depth)
