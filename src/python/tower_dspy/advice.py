"""Words of advice in errors: names that were meant, and none of another library's options."""

import difflib
import re
from collections.abc import Iterable

# The paragraphs that DSPy's client adds to a provider's message.
_PARAGRAPHS = re.compile(r"\n\n  (?:credential came from: .*|To fix:\n(?:    - .*(?:\n|$))*)")
# What a line of advice names that a user of the host does not have, or has by another name.
_FOREIGN = re.compile(
    r"api_key|API key|RouterConfig|lm15|account/project|a 429|Wait a moment|Configure credentials"
)


def without_foreign(message: str) -> str:
    """A message of DSPy's client without the advice that is of no use with a host."""

    def kept(paragraph: re.Match[str]) -> str:
        lines = paragraph[0].splitlines()
        advice = [line for line in lines if line.startswith("    - ") and not _FOREIGN.search(line)]
        return "\n".join(["\n\n  To fix:", *advice]) if advice else ""

    return _PARAGRAPHS.sub(kept, message)


def meant(name: str, known: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The known name that is closest to a misspelt one, or None."""
    by_lower: dict[str, str] = {}
    for one in known:
        by_lower.setdefault(one.lower(), one)
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message, as `a`, `b` and so on."""
    names = list(names)
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
