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


def rebind(port: Any, program: Any, config: dict[str, Any] | None) -> None:
    """Takes the predictors' own LMs over.

    An LM of a predictor's own, also one from a JSON state, is used instead of the one that the
    host gives.
    """
    for name, predictor in program.named_predictors():
        if predictor.lm is not None:
            predictor.lm = take_over(port, predictor.lm, config, f"the predictor `{name}`")


def take_over(port: Any, own: Any, config: dict[str, Any] | None, owner: str) -> dspy.LM:
    """An LM of the program's own under the host's rules.

    It keeps its model and its sampling options; retries and cache are turned off, and its calls go
    through the host's HTTP: with the host's key and base URL, or its own if the host has none.
    """
    if not isinstance(own, dspy.LM) or own.engine not in ("auto", "lm15"):
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own ({type(own).__name__}) that the host cannot take over; "
            "remove it, or make it a plain dspy.LM",
        )
    if config is None:
        base_url = own.kwargs.get("api_base") or own.kwargs.get("base_url")
        lm_id = port.adopt_lm(own.model, base_url, own.kwargs.get("api_key"))
    elif _provider(config["model"]) == _provider(own.model):
        lm_id, base_url = config["id"], config.get("base_url")
    else:
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own, `{own.model}`, of another provider than the host's "
            f"`{config['model']}`, so no key or base URL is known for it; remove it, or load the "
            "program with an LM of that provider",
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


def _provider(model: str) -> str:
    return model.split("/", 1)[0] if "/" in model else "openai"
