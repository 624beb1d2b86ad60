"""Programs that need as deep a stack as the main thread of `python` has."""

from __future__ import annotations

import asyncio
import sys

import dspy


class _Nested:
    """Its `repr` takes stack of C code for each level."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __repr__(self) -> str:
        return "bottom" if self.depth == 0 else repr(_Nested(self.depth - 1))


def _descend(depth: int) -> dict[str, str]:
    sys.setrecursionlimit(1_000_000)
    return {"answer": repr(_Nested(depth))}


class OnTheLoop(dspy.Module):
    async def aforward(self, depth: int):
        return _descend(depth)


class OnAThread(dspy.Module):
    def forward(self, depth: int):
        return _descend(depth)


class InTheExecutor(dspy.Module):
    async def aforward(self, depth: int):
        return await asyncio.to_thread(_descend, depth)
