"""The providers of LMs: where their requests go, and which variables hold their keys.

Both are known to the libraries that send the requests, lm15 and litellm. The host asks when it
loads an LM, by

    host.resolve_lm(lm_id, url, variables, has_credentials) -> whether the host has its key

which finds the key, in the host's own environment, and sets the address that the key may go to.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import FunctionType, SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import dspy
from dspy._vendor.lm15.registry import PROVIDERS, lookup
from dspy.clients.backend_selection import BackendSelection, select_backend

from tower_dspy import dry_run, provider_names
from tower_dspy.faults import HostError
from tower_dspy.lm_call import LM_PATHS
from tower_dspy.patches import litellm_secrets

# The beginnings of the names of litellm's providers that find credentials of their own, as those of
# a cloud, where they get no key.
_CLOUDS = ("azure", "bedrock", "sagemaker", "vertex")
# The names that lm15 has for providers of litellm, where they differ.
_LM15_NAMES = {
    "azure": "azure-chat",
    "azure_text": "azure-chat",
    "bedrock": "bedrock-chat",
    "moonshot": "moonshotai",
    "text-completion-openai": "openai",
}

# Providers of litellm that refuse each request without a credential, wherever their servers are.
_KEYED = ("azure_ai", "databricks")
_KEY_HEADERS = {"authorization", "api-key"}

# Where litellm's client for OpenAI goes if a provider has no address of its own.
_OPENAI = "api.openai.com"


@dataclass
class Provider:
    """What is known of an LM's provider."""

    # The variables that may hold the key, the likeliest first.
    variables: list[str] = field(default_factory=list)
    # Whether the provider's library finds credentials of its own where there is no key.
    has_credentials: bool = False
    # Whether the provider refuses each request without a key, at a `base_url` too.
    needs_key: bool = False


def prepare(lm: dspy.LM) -> BackendSelection:
    """Imports what the first call of an LM needs; rejects an unknown provider."""
    selection = select_backend(lm)
    if selection.native:
        return selection
    is_declared = selection.resolution is not None and selection.resolution.declared
    if is_declared or "custom_llm_provider" in lm.kwargs:
        return selection
    prefix, separator, _ = lm.model.partition("/")
    known = {str(getattr(name, "value", name)) for name in _litellm().provider_list}
    has_address = bool(lm.kwargs.get("api_base") or lm.kwargs.get("base_url"))
    provider_names.refuse_in_process(lm.model)
    if separator and prefix not in known:
        provider_names.refuse_unknown(lm.model, known | PROVIDERS.keys(), has_address)
    if not separator and not _is_known_alone(lm.model):
        provider_names.refuse_missing(lm.model, has_address)
    return selection


def is_of_cloud(lm: dspy.LM) -> bool:
    """Whether litellm finds credentials of its own for an LM, some of them on the network."""
    return lm.model.partition("/")[0].startswith(_CLOUDS)


def _is_known_alone(model: str) -> bool:
    """Whether litellm knows the provider of a model that names none."""
    with dry_run.unsent():
        try:
            _litellm().get_llm_provider(model)
        except Exception:
            return False
    return True


def provider_of(lm: dspy.LM, selection: BackendSelection) -> Provider:
    """The provider of an LM, by the tables of the library that DSPy calls it by."""
    provider = Provider()
    resolution = selection.resolution
    is_declared = resolution is not None and resolution.declared
    if resolution is not None:
        definition = _definition(lm, resolution.provider)
        provider.variables += definition.access.env_keys
        if selection.native:
            provider.has_credentials = definition.credential_policy != "key"
    prefix = lm.model.partition("/")[0]
    if not selection.native and not is_declared:
        provider.has_credentials = is_of_cloud(lm)
        named = lookup(_lm15_name(lm))
        provider.variables += () if named is None else named.access.env_keys
        provider.needs_key = prefix in _KEYED
        looked_up = _variables_of_litellm(lm, provider.has_credentials)
        names = filter(litellm_secrets.is_key, looked_up)
        provider.variables += _without_those_of_others(names, provider.variables)
    provider.variables = list(dict.fromkeys(provider.variables))
    if not provider.variables and not (selection.native or provider.has_credentials):
        provider.variables.append(f"{prefix.upper()}_API_KEY")
    return provider


def requested(lm: dspy.LM) -> str | None:
    """The URL that the LM's requests go to; None if there is none. Raises what the LM raises.

    Raises HostError if the first request is none to an LM, such as one for a token: the LM's key
    would go there.
    """

    def call() -> None:
        with dspy.context(callbacks=[], adapter=None):
            lm("?")

    request = dry_run.requested(call)
    if request is None:
        return None
    url = request.url
    if not _is_lm_request(lm, request):
        raise HostError(
            "lm",
            f"the LM `{lm.model}` is not usable: its client asks `{urlsplit(url).hostname}` for a "
            "token before it asks the LM, and the host sends the LM's key to the LM alone. "
            "Use a server with OpenAI's API before it, as `openai/<model>` with a `base_url`",
        )
    headers = {name.lower() for name, _ in request.headers}
    if lm.model.partition("/")[0] in _KEYED and not headers & _KEY_HEADERS:
        raise ValueError("its client found no credentials")
    # Not the address of the provider: the key of another one would go there.
    is_lost = urlsplit(url).hostname == _OPENAI and not _is_openai(lm)
    return None if is_lost else url


def _is_lm_request(lm: dspy.LM, request: Any) -> bool:
    """Whether the request has the path of an LM call, or names the LM's model."""
    if urlsplit(request.url).path.endswith(LM_PATHS):
        return True
    name = re.escape(lm.model.rpartition("/")[2])
    said = f"{unquote(request.url)} {bytes(request.body or b'').decode(errors='replace')}"
    return re.search(rf"(?<![\w.-]){name}(?![\w.-])", said) is not None


def _is_openai(lm: dspy.LM) -> bool:
    prefix, separator, _ = lm.model.partition("/")
    return not separator or "openai" in prefix or "custom_llm_provider" in lm.kwargs


def _definition(lm: dspy.LM, name: str) -> Any:
    declared = (binding.definition for binding in getattr(lm, "_providers", ()))
    return next((one for one in declared if one.id == name), None) or lookup(name)


def _lm15_name(lm: dspy.LM) -> str:
    """The name that lm15 may have for the provider of an LM of litellm."""
    name, separator, _ = lm.model.partition("/")
    if "custom_llm_provider" in lm.kwargs:
        name = lm.kwargs["custom_llm_provider"]
    elif not separator:
        # Fails for a model that litellm does not know, or a provider that it signs in to.
        with dry_run.unsent(), contextlib.suppress(Exception):
            name = _litellm().get_llm_provider(lm.model)[1]
    return _LM15_NAMES.get(name, name)


def _litellm() -> Any:
    # Here, as it imports litellm, which few programs need.
    from dspy.clients._litellm import get_litellm

    return get_litellm(feature="dspy.LM")


def _variables_of_litellm(lm: dspy.LM, has_credentials: bool) -> list[str]:
    """The variables that litellm names for an LM's model, and those that it looks up."""
    keyless = lm.copy()
    keyless.kwargs.pop("api_key", None)
    keyless.callbacks = []
    # Without a key it fails where its client wants one, as that of OpenAI does for any server.
    with litellm_secrets.recorded() as looked_up, contextlib.suppress(Exception):
        if has_credentials:
            # A request would look for the credentials, some of which are on the network.
            with dry_run.unsent():
                _litellm().get_llm_provider(lm.model)
        else:
            requested(keyless)
    return _names_of_litellm(lm.model) + looked_up


def _names_of_litellm(model: str) -> list[str]:
    """The variables that litellm reports as missing in an empty environment."""
    validate = _litellm().validate_environment
    empty = {**validate.__globals__, "os": SimpleNamespace(environ={})}
    report = FunctionType(validate.__code__, empty, validate.__name__, validate.__defaults__)
    # It signs in to some providers, such as GitHub Copilot.
    with dry_run.unsent():
        return report(model=model)["missing_keys"]
    return []


def _without_those_of_others(names: Iterable[str], own: list[str]) -> list[str]:
    """The variables without those that hold the key of another provider.

    litellm looks up the key of OpenAI as a last resort for most providers with OpenAI's API.
    """
    known = {name for definition in PROVIDERS.values() for name in definition.access.env_keys}
    others = known - set(own)
    is_openai = "OPENAI_API_KEY" in own
    return [
        name
        for name in names
        if name not in others and (is_openai or not name.startswith("OPENAI_"))
    ]
