"""The LM that a program calls: DSPy's own, over the host's HTTP, with its retries off."""

from __future__ import annotations

from typing import Any

import dspy

from tower_dspy import engine
from tower_dspy.faults import HostError

# Settings of a connection that a predictor's own LM may carry, and that move to the host.
_MOVED = ("api_key", "api_base", "base_url")


def build(port: Any, config: dict[str, Any]) -> dspy.LM:
    """The LM of a host's configuration."""
    try:
        return dspy.LM(
            config["model"],
            cache=False,
            num_retries=0,
            **engine.pair(port, config["id"], config["model"], config.get("base_url")),
            **config.get("options", {}),
        )
    except Exception as error:
        raise HostError("lm", f"the LM `{config['model']}` is not usable: {error}") from error


def configs(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The configurations of all LMs of a load request, the program's usual one first."""
    usual = spec.get("lm")
    return ([usual] if usual else []) + list(spec.get("lms", ()))


def give(program: Any, choices: Any, named: dict[str, dspy.LM], target: str) -> None:
    """Gives predictors the LMs that the load request names for them."""
    predictors = dict(program.named_predictors())
    for predictor, lm in choices:
        if predictor not in predictors:
            raise HostError(
                "predictor_lm",
                f"`{target}` has no predictor `{predictor}`; it has {list(predictors)}",
            )
        if lm not in named:
            raise HostError(
                "predictor_lm",
                f"the predictor `{predictor}` is to have the LM `{lm}`, and there is none of that "
                f"name in `.lms(..)`: there are {list(named)}",
            )
        predictors[predictor].lm = named[lm]


def rebind(port: Any, program: Any, configs: list[dict[str, Any]]) -> None:
    """Takes the predictors' own LMs over.

    An LM of a predictor's own, also one from a JSON state, is used instead of the one that the
    host gives.
    """
    for name, predictor in program.named_predictors():
        own = predictor.lm
        if own is not None and not engine.is_ours(own):
            predictor.lm = take_over(port, own, configs, f"the predictor `{name}`")


def take_over(port: Any, own: Any, configs: list[dict[str, Any]], owner: str) -> dspy.LM:
    """An LM of the program's own under the host's rules.

    It keeps its model and its sampling options; retries and cache are turned off, and its calls go
    through the host's HTTP: with the key and base URL of the host's LM that is like it, or its own
    if the host has none at all.
    """
    if not isinstance(own, dspy.LM) or own.engine not in ("auto", "lm15"):
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own ({type(own).__name__}) that the host cannot take over; "
            "remove it, or make it a plain dspy.LM",
        )
    if not configs:
        base_url = own.kwargs.get("api_base") or own.kwargs.get("base_url")
        try:
            lm_id = port.adopt_lm(own.model, base_url, own.kwargs.get("api_key"))
        except ValueError as error:
            raise HostError("own_lm", f"{owner} has an LM of its own: {error}") from error
    elif (config := _like(own.model, configs)) is not None:
        lm_id, base_url = config["id"], config.get("base_url")
    else:
        models = ", ".join(f"`{config['model']}`" for config in configs)
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own, `{own.model}`, of another provider than the host's "
            f"{models}, so no key or base URL is known for it; remove it, or load the program with "
            "an LM of that provider as well, by `.lms(..)`",
        )
    try:
        return own.copy(
            num_retries=0,
            cache=False,
            **engine.pair(port, lm_id, own.model, base_url),
            **{name: None for name in _MOVED if own.kwargs.get(name) is not None},
        )
    except Exception as error:
        raise HostError(
            "own_lm", f"{owner} has an LM of its own, `{own.model}`, that cannot be used: {error}"
        ) from error


def _like(model: str, configs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The configuration for the same model, else the first for the same provider."""
    same_model = (config for config in configs if config["model"] == model)
    provider = _provider(model)
    same_provider = (config for config in configs if _provider(config["model"]) == provider)
    return next(same_model, None) or next(same_provider, None)


def _provider(model: str) -> str:
    return model.split("/", 1)[0] if "/" in model else "openai"
