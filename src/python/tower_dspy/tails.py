"""Values of programs as JSON for the tails of frames.

What JSON, or Rust, cannot hold is refused, in the words of convert.rs. A lone surrogate is replaced
instead: half an emoji is not worth an answer.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tower_dspy.utf8 import to_utf8

# What Rust reads, and how many brackets it takes at least to nest too deep.
_DEEPEST = 126
_MANY = 100
_FROM, _TO = -(1 << 63), 1 << 64
# As long as the shortest integer that may be too great.
_LONG = re.compile(rb"\d{19}")


def to_json(value: Any) -> bytes:
    """The value as JSON; raises if there is none."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        _refuse(value, 0)
        raise
    tail = to_utf8(text)
    if _LONG.search(tail) or tail.count(b"[") + tail.count(b"{") > _MANY:
        _refuse(value, 0)
    return tail


def _refuse(value: Any, depth: int) -> None:
    """Says what in the value is at fault."""
    if depth > _DEEPEST:
        raise ValueError(f"the value is nested deeper than {_DEEPEST}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"JSON has no number for {value}; return None instead")
    elif isinstance(value, int):
        if not _FROM <= value < _TO:
            raise OverflowError("the integer has more than 64 bits")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse(item, depth + 1)
    elif not (value is None or isinstance(value, str)):
        raise TypeError(f"JSON has no value for a {type(value).__name__}")
