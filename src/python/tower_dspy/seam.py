"""What this package needs of DSPy beyond its documented interface, checked before it is used."""

from __future__ import annotations

import importlib
from typing import Any

from tower_dspy.patches import hops

# As in pyproject.toml.
MADE_FOR = "dspy>=3.4.0,<3.5"
_FROM, _TO = (3, 4, 0), (3, 5)

# Without these nothing would work, or work unnoticed in another way, as by LM calls that go past
# the host. As (module, names in it). What uses each is in patches/; the two routers make the
# transports.
_NEEDED = (
    (
        "dspy._vendor.lm15.transports",
        (
            "AsyncTransportResponse",
            "ConnectError",
            "ConnectTimeout",
            "ProtocolError",
            "ReadError",
            "ReadTimeout",
            "StdlibAsyncTransport.stream",
            "StdlibTransport.stream",
            "TransportError",
            "TransportResponse",
            "WriteError",
        ),
    ),
    ("dspy._vendor.lm15.providers.base", ("StdlibTransport",)),
    ("dspy._vendor.lm15.providers.async_base", ("StdlibAsyncTransport",)),
    ("dspy._vendor.lm15.router", ("AsyncLMRouter._shared_transport", "LMRouter._shared_transport")),
    ("dspy.clients.backend_selection", ("CLIENT_KEYS",)),
    ("dspy.adapters.utils", ("TypeAdapter",)),
    ("dspy.clients.capabilities", ("_capabilities", "model_info", "resolve", "select_backend")),
    ("dspy.clients.costs", ("model_info",)),
    (
        "dspy.clients.embedding",
        (
            "_acompute_embeddings",
            "_cached_acompute_embeddings",
            "_cached_compute_embeddings",
            "_compute_embeddings",
            "_get_litellm",
        ),
    ),
    ("dspy.clients.engines.lm15_engine", ("_Routing.plan",)),
    ("dspy.clients.execution", ("_retryable", "finalize", "select_backend")),
    (
        "dspy.clients.base_lm",
        ("GLOBAL_HISTORY", "pretty_print_history", "record_history"),
    ),
    ("dspy.clients.typesafe", ("TypeSafe", "record_history")),
    ("dspy.clients._litellm", ("get_litellm",)),
    ("dspy", ("BaseLM.__call__", "BaseLM.acall", "Embedder.acall", "LM.engine")),
    (
        "dspy.dsp.utils.settings",
        (
            "config_owner_async_task",
            "config_owner_thread_id",
            "main_thread_config",
            "thread_local_overrides",
        ),
    ),
    ("dspy.utils.exceptions", ("LMError",)),
    ("dspy.utils.parallelizer", ("ParallelExecutor.execute",)),
    ("dspy.adapters.types.base_type", ("Type.serialize_model",)),
    ("dspy.utils.parallelizer", ("ParallelExecutor.execute",)),
)


def check(version: str) -> list[str]:
    """Raises if this DSPy cannot be served; returns what is weaker with it."""
    missing = [
        f"{module}.{name}" for module, names in _NEEDED for name in names if not _has(module, name)
    ]
    if missing:
        raise RuntimeError(
            f"DSPy {version} lacks {', '.join(missing)}, which its LM calls need to go through "
            f"the host; install a version that this crate was made for: pip install '{MADE_FOR}'"
        )
    weaker = []
    if not _FROM <= _numbers(version) < _TO:
        weaker.append(
            f"DSPy {version} is not a version that this crate was made for; install one: "
            f"pip install '{MADE_FOR}'"
        )
    slow = hops.find()[1]
    if slow:
        weaker.append(
            f"DSPy {version} lacks {', '.join(slow)}: LM calls wait for a thread in between, so "
            "each is slower, and waits for functions that block all threads"
        )
    return weaker


class Probe:
    """The port and its side of a call, for one prediction that shows what this DSPy does."""

    number = 0

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._requests = self._answers = 0

    def open(self, _route: Any, _timeout: Any, _call: Any, _request: Any, deliver: Any) -> Probe:
        self._requests += 1
        deliver(("full", 200, [("content-type", "application/json")], self._answer))
        return self

    def abort(self) -> None:
        pass

    def is_over(self) -> bool:
        return False

    def bypassed(self, _: str) -> None:
        pass

    def stepped(self, *_: Any) -> None:
        self._answers += 1

    def confirm(self) -> None:
        """Raises unless the one LM call of the prediction was seen, in between and at its end."""
        if (self._requests, self._answers) != (1, 1):
            raise RuntimeError(
                "this DSPy's predictors ask their LMs in another way than through "
                "`dspy.BaseLM.acall` and lm15's transports, where a call that has ended is "
                f"stopped; install a version that this crate was made for: pip install '{MADE_FOR}'"
            )


def _has(module: str, name: str) -> bool:
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError):
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `3.4.1rc2` comes before nothing but `3.4.2`."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
