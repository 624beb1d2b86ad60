"""Counts itself: how many calls run at once, as Python sees it."""

from __future__ import annotations

import asyncio
from collections import Counter

_running: Counter[str] = Counter()
_most: Counter[str] = Counter()
_begun: Counter[str] = Counter()


async def work(key: str):
    _begun[key] += 1
    _running[key] += 1
    _most[key] = max(_most[key], _running[key])
    try:
        await asyncio.sleep(3600)
    finally:
        # Long enough for a second call to come in if its permit were back already.
        await asyncio.sleep(0.03)
        _running[key] -= 1


async def counts(key: str) -> dict[str, int]:
    return {"most": _most[key], "begun": _begun[key], "running": _running[key]}
