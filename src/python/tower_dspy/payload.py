"""Values of programs as JSON, and text as valid UTF-8: what Rust reads, of both kinds of host.

Values that JSON or Rust cannot represent are rejected.

Python's strings may hold lone surrogates: half an emoji of an answer that was cut short, a file
name that is not UTF-8. Rust's strings cannot, and its JSON reader ends a worker that sends one. So
`to_utf8` encodes all text that goes to Rust.
"""

import json
import math
from typing import Any

import pydantic_core

# The nesting that Rust reads, and its integers.
_DEEPEST = 126
_FROM, _TO = -(1 << 63), 1 << 64


def to_json(value: Any) -> bytes:
    """The value as JSON; raises if it has none."""
    _reject(value, 0)
    try:
        return pydantic_core.to_json(value)
    except pydantic_core.PydanticSerializationError:  # of a lone surrogate
        return to_utf8(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def from_json(text: str | bytes) -> Any:
    """The value of JSON from Rust. None of its strings is kept."""
    return pydantic_core.from_json(text, cache_strings="none")


def _reject(value: Any, depth: int) -> None:
    """Raises for a part of the value that cannot be represented."""
    if depth > _DEEPEST:
        raise ValueError(f"the value is nested deeper than {_DEEPEST}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"JSON has no number for {value}; return None instead")
    elif isinstance(value, int):
        if not _FROM <= value < _TO:
            raise OverflowError("the integer has more than 64 bits")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key} of a JSON object is no string")
            _reject(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _reject(item, depth + 1)
    elif not (value is None or isinstance(value, str)):
        raise TypeError(f"JSON has no value for a {type(value).__name__}")


def to_utf8(text: str) -> bytes:
    """The text as UTF-8, with U+FFFD in place of each lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        # By way of UTF-16, in which two halves that stand together are one character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
