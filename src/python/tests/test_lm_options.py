"""The options of an LM that the docs list for its provider."""

import re
from pathlib import Path

import dspy
import pytest

from tower_dspy import lm_address

pytestmark = pytest.mark.usefixtures("no_keys")

# Of each option of the table in the docs, a value that is not the usual one.
OPTIONS = {
    "api_version": "2024-05-01-preview",
    "aws_region_name": "eu-west-1",
    "context_length_exceeded_behavior": "error",
    "extra_body": {"tags": ["a"]},
    "extra_headers": {"x-title": "app"},
    "guardrailConfig": {"guardrailIdentifier": "a", "guardrailVersion": "1"},
    "k": 3,
    "keep_alive": "5m",
    "max_tokens": 77,
    "model_type": "responses",
    "num_ctx": 9,
    "reasoning_effort": "low",
    "repetition_penalty": 1.1,
    "requestMetadata": {"a": "b"},
    "safe_prompt": True,
    "safety_mode": "NONE",
    "search_domain_filter": ["a.test"],
    "search_recency_filter": "week",
    "seed": 3,
    "service_tier": "flex",
    "temperature": 0.3,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "top_k": 3,
}


def documented() -> list[tuple[str, list[str], bool]]:
    """The example, the options and whether it needs an address, of each provider in the docs."""
    docs = Path(__file__).parents[2] / "lm" / "providers.md"
    rows = [line.split(" | ") for line in docs.read_text().splitlines() if line.startswith("| `")]
    return [
        (row[1].strip("`"), re.findall("`(\\w+)`", row[6]), row[4][1:9] == "base_url")
        for row in rows
    ]


@pytest.mark.parametrize(("model", "options", "needs_address"), documented())
@pytest.mark.usefixtures("aws")
def test_each_option_in_the_docs_changes_the_request(model, options, needs_address):
    if model.startswith("vertex"):
        pytest.skip("it needs a login of Google")
    address = {"api_base": "https://mine.test/v1"} if needs_address else {}
    key = {} if model.startswith("bedrock") else {"api_key": "k"}

    def sent(**given: object) -> tuple[object, ...]:
        lm = dspy.LM(model, cache=False, num_retries=0, **address, **key, **given)
        request = lm_address.dry_run.requested(lambda: lm("?"))
        headers = {name.lower(): value for name, value in request.headers}
        headers.pop("authorization", None)
        headers.pop("x-amz-date", None)
        return request.url, request.body, headers

    assert options
    usual = sent()
    for option in options:
        assert sent(**{option: OPTIONS[option]}) != usual, option
