"""What the process that a program runs in holds."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections import Counter


class _MallInfo(ctypes.Structure):
    """What `mallinfo2` of glibc tells of all arenas."""

    _fields_ = [
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


async def count() -> dict:
    """The objects by type, garbage collected first, and the blocks and bytes of the allocators."""
    gc.collect()
    types = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
    of_asyncio = (n for name, n in types.items() if name.startswith(("_asyncio.", "asyncio.")))
    used, free = _malloc()
    return {
        "objects": sum(types.values()),
        "asyncio": sum(of_asyncio),
        "tasks": len(asyncio.all_tasks()),
        "blocks": sys.getallocatedblocks(),
        "malloc_used": used,
        "malloc_free": free,
        "types": dict(types),
    }


def _malloc() -> tuple[int, int]:
    """The bytes that malloc has given out, and those that it keeps for later."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # another libc
        return 0, 0
    mallinfo2.restype = _MallInfo
    info = mallinfo2()
    return info.uordblks + info.hblkhd, info.fordblks
