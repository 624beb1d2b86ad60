"""What a user's own PyO3 code awaits on the host's loop, and what it awaits of Rust."""

from __future__ import annotations

import asyncio
import threading


async def where() -> list:
    await asyncio.sleep(0)
    return [id(asyncio.get_running_loop()), threading.get_ident()]


async def one_more(awaitable) -> int:
    return 1 + await awaitable


async def fails() -> None:
    await asyncio.sleep(0)
    raise LookupError("no such row")
