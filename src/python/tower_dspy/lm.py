"""The LM that a program calls: DSPy's own client, with its retries and its cache off."""

from __future__ import annotations

from typing import Any

import dspy

from tower_dspy.faults import HostError

# "lm15" is DSPy's native client and refuses what it cannot do. "auto" would switch to litellm,
# silently, for a base URL in the environment: 3 s and 200 MB at the first call.
ENGINE = "lm15"


def build(config: dict[str, Any]) -> dspy.LM:
    """The LM of a host's configuration."""
    try:
        return dspy.LM(
            config["model"],
            engine=ENGINE,
            cache=False,
            num_retries=0,
            **_client(config),
            **config.get("options", {}),
        )
    except Exception as error:
        raise HostError("lm", f"the LM `{config['model']}` is not usable: {error}") from error


def rebind(program: Any, config: dict[str, Any] | None) -> list[str]:
    """Takes the predictors' own LMs over; returns the names of those predictors.

    An LM of a predictor's own, also one from a JSON state, is used instead of the one that the
    host gives.
    """
    bound = []
    for name, predictor in program.named_predictors():
        if predictor.lm is not None:
            predictor.lm = take_over(predictor.lm, config, f"the predictor `{name}`")
            bound.append(name)
    return bound


def take_over(own: Any, config: dict[str, Any] | None, owner: str) -> dspy.LM:
    """An LM of the program's own under the host's rules.

    It keeps its model and its sampling options; retries and cache are turned off, and key and
    base URL become those of the host, if the host has any.
    """
    if not isinstance(own, dspy.LM) or own.engine not in ("auto", ENGINE):
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own ({type(own).__name__}) that the host cannot take over; "
            "remove it, or make it a plain dspy.LM",
        )
    if config is not None and _provider(config["model"]) != _provider(own.model):
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own, `{own.model}`, of another provider than the host's "
            f"`{config['model']}`, so no key or base URL is known for it; remove it, or load the "
            "program with an LM of that provider",
        )
    client = _client(config) if config else {}
    return own.copy(engine=ENGINE, num_retries=0, cache=False, **client)


def _provider(model: str) -> str:
    return model.split("/", 1)[0] if "/" in model else "openai"


def _client(config: dict[str, Any]) -> dict[str, Any]:
    names = {"api_base": config.get("base_url"), "api_key": config.get("key")}
    return {name: value for name, value in names.items() if value is not None}
