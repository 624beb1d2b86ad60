"""The provider in an LM's name: what to write in place of one that is not known."""

from collections.abc import Collection

from tower_dspy import advice
from tower_dspy.faults import HostError

# Companies and models that are taken for the names of providers.
_MEANT = {
    "aws": "bedrock",
    "chatgpt": "openai",
    "claude": "anthropic",
    "google": "gemini",
    "gpt": "openai",
    "grok": "xai",
    "kimi": "moonshot",
    "mistralai": "mistral",
    "together": "together_ai",
    "togetherai": "together_ai",
    "vertex": "vertex_ai",
    "fireworks": "fireworks_ai",
    "qwen": "dashscope",
}


def refuse_unknown(model: str, known: Collection[str], has_address: bool) -> None:
    """Raises HostError for a model whose provider is none of these, with what to write instead."""
    prefix, _, name = model.partition("/")
    ours = f"`openai/{model}`"
    if has_address:
        close = advice.meant(prefix.strip(), known)
        spelt = f"; for the provider `{close}` write `{close}/{name}`" if close else ""
        raise HostError(
            "lm",
            f"the LM `{model}` is not usable: `{prefix}` is no provider. For a server with "
            f"OpenAI's API at the `Lm::base_url` that it has, write {ours}{spelt}",
        )
    close = _MEANT.get(prefix.strip().lower()) or advice.meant(prefix.strip(), known)
    written = f"; did you mean `{close}/{name}`?" if close else "."
    raise HostError(
        "lm",
        f"the LM `{model}` is not usable: `{prefix}` is no provider{written} A server with "
        f"OpenAI's API is {ours} with its address by `Lm::base_url`",
    )


def refuse_in_process(model: str) -> None:
    """Raises HostError for a provider that would run its models in this process."""
    prefix, _, name = model.partition("/")
    if prefix == "vllm":
        raise HostError(
            "lm",
            f"the LM `{model}` is not usable: `vllm` runs models in the host's own process. A "
            f"server of vLLM is `hosted_vllm/{name}` with its address by `Lm::base_url`",
        )


def refuse_missing(model: str, has_address: bool) -> None:
    """Raises HostError for a model that names no provider, and is not known by its own name."""
    also = "" if has_address else ", with its address by `Lm::base_url`"
    raise HostError(
        "lm",
        f"the LM `{model}` is not usable: it names no provider. Write `provider/{model}`, as in "
        f"`anthropic/{model}`; a server with OpenAI's API is `openai/{model}`{also}",
    )
