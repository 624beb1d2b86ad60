import sys
from types import SimpleNamespace

import dspy
import pytest
from conftest import HOST_LM
from dspy.clients import costs, model_metadata
from dspy.lm15 import Message, Response, Usage
from fakes import FakeLmHost

from tower_dspy import host_lms, prices

USAGES = (
    {"input_tokens": 1000, "output_tokens": 100},
    {"input_tokens": 1000, "output_tokens": 0},
    {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 400},
    {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 400, "cache_write_tokens": 9},
    {"input_tokens": 1000, "output_tokens": 100, "reasoning_tokens": 60},
    {"input_tokens": 128_000, "output_tokens": 10},
    {"input_tokens": 300_000, "output_tokens": 10, "cache_read_tokens": 250_000},
)
TIERS = (None, "default", "flex", "priority", "batch")
# Providers that count what is read from a cache, and reasoning, beside the rest.
BESIDE_INPUT = frozenset(("anthropic",))
BESIDE_OUTPUT = frozenset(("gemini", "xai"))


def models():
    table = model_metadata._load()
    for key, entry in table.items():
        provider = entry.get("litellm_provider") if isinstance(entry, dict) else None
        name = key.removeprefix(f"{provider}/")
        if provider in ("openai", "anthropic", "gemini", "deepseek", "openrouter", "xai"):
            yield f"{provider}/{name}"


def cost(tiers, provider, usage):
    """The cost as the host computes it, where cached tokens and reasoning are within the counts."""
    prompt, completion = usage["input_tokens"], usage["output_tokens"]
    read, written = usage.get("cache_read_tokens", 0), usage.get("cache_write_tokens", 0)
    reasoning = usage.get("reasoning_tokens", 0)
    if provider in BESIDE_INPUT:
        prompt += read + written
    if provider in BESIDE_OUTPUT:
        completion += reasoning
    rates = [rates for above, rates in tiers or () if above == 0 or prompt > above]
    if not rates:
        return None
    counts = prompt - read - written, completion - reasoning, read, written, reasoning
    parts = [(count, rate) for count, rate in zip(counts, rates[-1], strict=True) if count]
    return None if any(rate is None for _, rate in parts) else sum(n * rate for n, rate in parts)


@pytest.mark.parametrize("tier", TIERS)
def test_the_rates_give_the_costs_that_dspy_estimates(tier):
    compared = 0
    for model in models():
        lm = dspy.LM(model, cache=False, api_key="unused")
        try:
            route = host_lms.prices.capabilities.resolve(lm)
        except Exception:
            continue
        body = b"{}" if tier is None else b'{"service_tier": "%s"}' % tier.encode()
        tiers = prices.tiers(model, body)
        for usage in USAGES:
            response = Response(
                id="1",
                model=route.model,
                message=Message.assistant("x"),
                finish_reason="stop",
                usage=Usage(**usage),
            )
            request = SimpleNamespace(
                tools=(), config=SimpleNamespace(service_tier=tier, cache=None)
            )
            expected, _ = costs.estimate_cost(
                response, provider=route.provider, requested_model=route.model, request=request
            )
            got = cost(tiers, route.provider, usage)
            if expected is None:
                assert got is None, (model, usage)
            else:
                assert got == pytest.approx(expected, rel=1e-9), (model, usage)
                compared += 1
    assert (compared > 50) == (tier != "batch")


def test_an_lm_without_an_entry_has_no_price():
    for model in ("openai/my-model", "nobody/gpt-4o", "gpt-4o-of-mine", ""):
        assert prices.tiers(model, b"{}") is None


def test_a_text_that_names_a_service_tier_is_none():
    body = b'{"messages": [{"content": "\\"service_tier\\": \\"unknown\\""}]}'
    assert prices.tiers("openai/gpt-4o-mini", body) == prices.tiers("openai/gpt-4o-mini", b"{}")
    assert prices.tiers("openai/gpt-4o-mini", b'{"service_tier":"unknown"}') is None


def test_a_prompt_that_is_cached_for_an_hour_has_the_rate_of_that():
    model = "anthropic/claude-sonnet-4-5"
    (_, short), *_ = prices.tiers(model, b"{}")
    body = b'{"cache_control": {"type": "ephemeral", "ttl": "1h"}}'
    (_, long), *_ = prices.tiers(model, body)
    entry = model_metadata.model_info("anthropic", "claude-sonnet-4-5")
    assert short[3] == entry["cache_creation_input_token_cost"]
    assert long[3] == entry["cache_creation_input_token_cost_above_1hr"]


def test_an_lm_has_its_price_from_its_load_on(monkeypatch):
    monkeypatch.setattr(prices, "_entries", {})
    host_lms.build_lm(FakeLmHost(), {**HOST_LM, "model": "openai/gpt-4o-mini"})
    monkeypatch.setattr(prices, "_entry_of", lambda _: pytest.fail("looked up after the load"))
    assert prices.tiers("openai/gpt-4o-mini", b"{}")[0][1][0] == 1.5e-07


def test_a_load_replaces_the_price_that_was_known_before(monkeypatch):
    model, entry = "openai/loaded-twice", {"input_cost_per_token": 1e-06}
    monkeypatch.setattr(prices, "_entry_of", lambda _: dict(entry))
    assert prices.tiers(model, b"{}")[0][1][0] == 1e-06
    entry["input_cost_per_token"] = 2e-06
    prices.load(SimpleNamespace(model=model))
    assert prices.tiers(model, b"{}")[0][1][0] == 2e-06


def test_prices_are_kept_for_a_bounded_number_of_models(monkeypatch):
    monkeypatch.setattr(prices, "_entry_of", lambda _: {})
    for number in range(1000):
        prices.tiers(f"openai/bounded-{number}", b"{}")
    assert len(prices._entries) <= prices._MOST
    assert len(prices._tiers) <= prices._MOST


def test_an_lm_that_litellm_carries_has_its_price_of_it(monkeypatch):
    pytest.importorskip("litellm")
    import litellm

    monkeypatch.setattr(prices, "_entries", {})
    monkeypatch.setattr(prices, "_tiers", {})
    model = next(
        key
        for key, entry in litellm.model_cost.items()
        if key.startswith("mistral/") and entry.get("input_cost_per_token")
    )
    entry = litellm.model_cost[model]
    (_, rates), *_ = prices.tiers(model, b"{}")
    assert rates[:2] == (entry["input_cost_per_token"], entry["output_cost_per_token"])
    monkeypatch.setattr(prices, "_entries", {})
    monkeypatch.setattr(prices, "_tiers", {})
    monkeypatch.delitem(sys.modules, "litellm")
    assert prices.tiers(model, b"{}") is None
