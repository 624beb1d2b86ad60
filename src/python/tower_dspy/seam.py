"""What this package needs of DSPy beyond its documented interface, checked before it is used."""

from __future__ import annotations

import importlib
from typing import Any

from tower_dspy.executor import find_hops

# As in pyproject.toml.
MADE_FOR = "dspy>=3.4.1,<3.5"
_FROM, _TO = (3, 4, 1), (3, 5)

# Without these nothing would work, or work unnoticed in another way, as by LM calls that go past
# the host. As (module, names in it).
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
            "TransportError",
            "TransportResponse",
            "WriteError",
        ),
    ),
    (
        "dspy.clients.engines.lm15_engine",
        (
            "AsyncLM15Engine.complete",
            "AsyncLM15Engine.stream",
            "LM15Engine.complete",
            "LM15Engine.resolve",
            "LM15Engine.stream",
        ),
    ),
    ("dspy.lm15", ("RouterConfig",)),
    ("dspy", ("BaseLM.__call__", "BaseLM.acall", "LM.engine")),
    (
        "dspy.dsp.utils.settings",
        ("config_owner_async_task", "config_owner_thread_id", "main_thread_config"),
    ),
    ("dspy.utils.exceptions", ("LMError",)),
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
        weaker.append(f"DSPy {version} is not a version that this crate was made for ({MADE_FOR})")
    slow = find_hops()[1]
    if slow:
        weaker.append(
            f"DSPy {version} lacks {', '.join(slow)}: LM calls wait for a thread in between, so "
            "each is slower, and waits for functions that block all threads"
        )
    return weaker


class Witness:
    """Stands for the port's side of a call in a prediction that is made to see what DSPy does."""

    def __init__(self) -> None:
        self._asked = self._answered = 0

    def is_over(self) -> bool:
        return False

    def bypassed(self, _: str) -> None:
        self._asked += 1

    def stepped(self) -> None:
        self._answered += 1

    def confirm(self) -> None:
        """Raises unless the one LM call of the prediction was seen, before and after."""
        if (self._asked, self._answered) != (1, 1):
            raise RuntimeError(
                "this DSPy's predictors ask their LMs in another way than through "
                "`dspy.BaseLM.acall`, where a call that has ended is stopped; install a version "
                f"that this crate was made for: pip install '{MADE_FOR}'"
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
