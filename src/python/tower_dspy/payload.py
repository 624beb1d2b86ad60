"""Payloads of frames: values of programs as JSON.

Values that JSON or Rust cannot represent are rejected, with the messages of convert.rs. A lone
surrogate is replaced instead: half an emoji is not worth an answer.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tower_dspy.utf8 import to_utf8

# The nesting that Rust reads, and a number of brackets that cannot nest deeper.
_DEEPEST = 126
_MANY = 100
_FROM, _TO = -(1 << 63), 1 << 64
# The digits of the shortest integer that may be too large.
_LONG = re.compile(rb"\d{19}")


def to_json(value: Any) -> bytes:
    """The value as JSON; raises if it has none."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        _reject(value, 0)
        raise
    payload = to_utf8(text)
    if _LONG.search(payload) or payload.count(b"[") + payload.count(b"{") > _MANY:
        _reject(value, 0)
    return payload


def _reject(value: Any, depth: int) -> None:
    """Raises for the part of the value that cannot be represented."""
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
            _reject(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _reject(item, depth + 1)
    elif not (value is None or isinstance(value, str)):
        raise TypeError(f"JSON has no value for a {type(value).__name__}")
