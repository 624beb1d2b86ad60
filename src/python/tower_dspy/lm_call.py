"""One LM call or embedding of a program, for the HTTP requests that are made for it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

# Where the host's number of an LM stands among the LM's attributes; its copies have it too.
HOST_ID = "_tower_dspy_lm"
# The same for the LM of the program that it was made of.
TAKEN_FROM = "_tower_dspy_taken_from"

CURRENT: ContextVar[LmCall | None] = ContextVar("tower_dspy_lm_call", default=None)

# What Python sends as a key, with the host's number of the LM; Rust puts the real key in its place.
PLACEHOLDER = "TOWER-DSPY-KEY"


def placeholder(lm_id: int) -> str:
    """The key that Python has for an LM of the host."""
    return f"{PLACEHOLDER}-{lm_id}"


class LmCall:
    """What DSPy knows of an LM call, and what its requests tell of it."""

    __slots__ = ("cached", "exchange", "lm_id", "model", "usage")

    def __init__(self, model: str, lm_id: int | None) -> None:
        self.model = model
        # The host's number; None for an LM that the program made while it ran.
        self.lm_id = lm_id
        # The number of the last HTTP request that went through the host.
        self.exchange: int | None = None
        # Whether the answer is from DSPy's cache, which a program may turn on, as far as is known.
        self.cached: bool | None = None
        # DSPy's reading of the tokens.
        self.usage: dict[str, Any] = {}
