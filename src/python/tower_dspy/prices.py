"""The prices of LMs, from the table that DSPy has.

LMs of DSPy's native client are in a table of DSPy's own, the others in litellm's: each LM has the
price by which DSPy estimates the cost of its answers. Both tables are in the packages: nothing is
fetched. What is not known is None, never zero.
"""

import re
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from dspy import lm15
from dspy.clients import capabilities, costs
from dspy.clients.model_metadata import rate

from tower_dspy.dry_run import unsent

# The rates of prompts with more tokens than the number, in USD for a token: of prompts, of answers,
# of prompts that are read from a cache, and that are written to one, and of reasoning.
Tier = tuple[int, tuple[float | None, ...]]

# The keys of these rates, each with the key of the rate that applies where the table lacks it.
_RATES = (
    ("input_cost_per_token", None),
    ("output_cost_per_token", None),
    ("cache_read_input_token_cost", "input_cost_per_token"),
    ("cache_creation_input_token_cost", "input_cost_per_token"),
    ("output_cost_per_reasoning_token", "output_cost_per_token"),
)
_LONG_PROMPT = re.compile(r"_above_(\d+)k_tokens")
# In a body of JSON, where the quotes of a text are escaped.
_SERVICE_TIER = re.compile(rb'"service_?[tT]ier"\s*:\s*"(\w+)"')
_LONG_CACHE = re.compile(rb'"ttl"\s*:\s*"1h"')

# The ends of the keys of service tiers.
_SERVICE_TIERS = {
    **dict.fromkeys((b"auto", b"default", b"standard", b"ON_DEMAND"), ""),
    b"flex": "_flex",
    b"priority": "_priority",
}
# Paid by a subscription, and not by the token.
_SUBSCRIPTIONS = frozenset(("claude-code", "openai-codex"))

# Programs may ask any number of models.
_MOST = 256

# The entries of the tables by the names of models.
_entries: dict[str, dict[str, Any]] = {}
# The rates by the model, the end of the service tier's keys, and whether prompts are cached long.
_tiers: dict[tuple[str, str, bool], list[Tier] | None] = {}


def load(lm: Any) -> None:
    """Looks up the price of an LM before its first call."""
    _keep(_entries, lm.model, _entry_of(lm))
    # Those of an LM of the same name that was loaded before.
    for key in list(_tiers):
        if key[0] == lm.model:
            _tiers.pop(key, None)


def tiers(model: str, body: bytes) -> list[Tier] | None:
    """The rates of a request to the LM of this name; None if there is no price."""
    end = ""
    if b'"service' in body and (asked := _SERVICE_TIER.search(body)) is not None:
        end = _SERVICE_TIERS.get(asked[1])
        if end is None:
            return None
    # Finding a word takes far less time than matching a long prompt.
    key = model, end, b'"ttl"' in body and _LONG_CACHE.search(body) is not None
    # Other threads may forget what is kept.
    with suppress(KeyError):
        return _tiers[key]
    entry = _entries.get(model)
    if entry is None:
        entry = _entry_of(_named(model))
        _keep(_entries, model, entry)
    found = _tiers_of(entry, *key[1:])
    _keep(_tiers, key, found)
    return found


def _keep(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= _MOST:
        known.clear()
    known[key] = value


def _named(model: str) -> Any:
    """What DSPy needs of an LM to find its provider."""
    return SimpleNamespace(model=model, model_type="chat")


def _entry_of(lm: Any) -> dict[str, Any]:
    """The entry of an LM in its table; empty if it has none."""
    try:
        route = capabilities.resolve(lm)
        if route.provider in _SUBSCRIPTIONS:
            return {}
        if not route.declared:
            return costs.model_info(route.provider, route.model)
        provider = lm15._binding_for(getattr(lm, "_providers", ()), route.provider)
        names = None if provider is None else provider.metadata_namespaces
        return costs.model_info(route.provider, route.model, namespaces=names)
    except Exception:  # of no provider that the native client knows
        return _litellm_entry(lm.model)


def _litellm_entry(model: str) -> dict[str, Any]:
    litellm = sys.modules.get("litellm")
    # Else litellm asks some providers, such as Hugging Face, for what it does not know.
    with unsent(), suppress(Exception):  # not imported, or a model that it does not know
        # Its own figures have zero for what is not known.
        return litellm.model_cost[litellm.get_model_info(model)["key"]]
    return {}


def _tiers_of(entry: dict[str, Any], end: str, is_long_cache: bool) -> list[Tier] | None:
    """The rates of an entry, as DSPy's `estimate_cost` chooses them; None if none is known."""
    long_prompts = {int(found[1]) for key in entry if (found := _LONG_PROMPT.search(key))}
    made = [_tier(entry, thousands, end, is_long_cache) for thousands in sorted({0} | long_prompts)]
    return made if any(rate is not None for _, rates in made for rate in rates) else None


def _tier(entry: dict[str, Any], thousands: int, end: str, is_long_cache: bool) -> Tier:
    part = f"_above_{thousands}k_tokens" if thousands else ""

    def find(key: str, fallback: str | None) -> float | None:
        if is_long_cache and key == "cache_creation_input_token_cost":
            return rate(entry, f"{key}_above_1hr{part}{end}")
        found = rate(entry, f"{key}{part}{end}")
        return rate(entry, f"{fallback}{part}{end}") if found is None and fallback else found

    return thousands * 1000, tuple(find(*keys) for keys in _RATES)
