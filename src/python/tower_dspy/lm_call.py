"""The LM call or embedding that an HTTP request is made for."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

# The attribute of an LM with the host's number of it; copies of the LM have it too.
HOST_ID = "_tower_dspy_lm"
# The attribute of an LM with the program's own LM that it replaces.
REPLACES = "_tower_dspy_taken_from"

CURRENT_LM_CALL: "ContextVar[LmCall | None]" = ContextVar("tower_dspy_lm_call", default=None)

# The key that Python sends, with the host's number of the LM; the host replaces it by the real key.
PLACEHOLDER = "TOWER-DSPY-KEY"

# The paths by which an LM call of a provider's SDK is recognised.
LM_PATHS = (
    "/completions",
    "/responses",
    "/messages",
    "/embeddings",
    ":generateContent",
    ":streamGenerateContent",
    ":embedContent",
    "/converse",
    "/converse-stream",
    "/invoke",
    "/invoke-with-response-stream",
    "/api/chat",
    "/api/generate",
    "/api/embed",
)


def placeholder(lm_id: int) -> str:
    """The key that Python has for an LM of the host."""
    return f"{PLACEHOLDER}-{lm_id}"


@dataclass(slots=True)
class LmCall:
    """The model of an LM call, and what is known of its requests and its answer."""

    model: str
    # The host's number; None for an LM that the program made while it ran.
    lm_id: int | None
    # Whether an embedder makes it.
    is_embedding: bool = False
    # The number of the last HTTP request that went through the host.
    exchange: int | None = None
    # Whether its request asks for a stream.
    is_streamed: bool = False
    # Whether the answer came from DSPy's cache; None while it is not known.
    cached: bool | None = None
    # The tokens as DSPy read them.
    usage: dict[str, Any] = field(default_factory=dict)
    # When a member of a group has to have content, by the monotonic clock, see patches/failover.py.
    content_by: float | None = None
    # The kind of the failure that its last request ended with; None if it has an answer.
    failure: str | None = None
    # Whether content of it went out to the reader of the call.
    is_shown: bool = False
    # The member of a group that answered, and DSPy's call of it.
    answered: tuple[Any, Any] | None = None
    # The LM call of the group that this one is a member's of.
    outer: "LmCall | None" = None
    # Its exchanges, also those of its members.
    exchanges: list[Any] = field(default_factory=list)
    # Another one answered in its place.
    _is_stopped: bool = False

    def is_stopped(self) -> bool:
        """Whether it sends nothing more, as another one answered in its place."""
        return self._is_stopped or (self.outer is not None and self.outer.is_stopped())

    def begin(self, exchange: Any) -> None:
        """Adds an exchange."""
        self.exchanges.append(exchange)
        if self._is_stopped:
            exchange.stop()
        if self.outer is not None:
            self.outer.begin(exchange)

    def stop(self) -> None:
        """Ends the LM call, from any thread, as another one answered in its place."""
        self._is_stopped = True
        for exchange in tuple(self.exchanges):
            exchange.stop()
