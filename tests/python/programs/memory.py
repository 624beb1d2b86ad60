"""What is in the memory of the process that a program runs in."""

from __future__ import annotations

import os
import sys

_PIECE = 1 << 20


async def holds(halves: list[tuple[str, str]]) -> dict:
    """How often each text, given in two halves, is in what this process can write to.

    They are put together nowhere here, so that this finds only what others left.
    """
    needles = [(first.encode(), second.encode()) for first, second in halves]
    longest = max(len(first) + len(second) for first, second in needles)
    found = [0] * len(needles)
    with open("/proc/self/maps") as maps:
        areas = [line.split()[:2] for line in maps]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for area, rights in areas:
            if not rights.startswith("rw"):
                continue
            at, end = (int(part, 16) for part in area.split("-"))
            while at < end:
                try:
                    # What lies across the end of a piece is found in both.
                    piece = os.pread(memory.fileno(), min(_PIECE + longest, end - at), at)
                except OSError:
                    break
                for n, needle in enumerate(needles):
                    found[n] += _count(piece, *needle)
                at += _PIECE
    with open("/proc/self/environ", "rb") as environ:
        shown = [environ.read(), *os.environb.values(), *map(os.fsencode, sys.argv)]
    return {
        "in_memory": found,
        "shown": [sum(_count(text, *needle) for text in shown) for needle in needles],
    }


def _count(text: bytes, first: bytes, second: bytes) -> int:
    count, at = 0, text.find(first)
    while at >= 0:
        count += text.startswith(second, at + len(first))
        at = text.find(first, at + 1)
    return count
