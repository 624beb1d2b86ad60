"""The LMs of a program: DSPy's own, with the host's keys in the place of theirs.

DSPy chooses the engine of each, as it does without a host; the host has the transports, see
patches/lm15.py and httpx.py.
"""

from __future__ import annotations

import copy
import difflib
import json
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy.clients.backend_selection import select_backend

from tower_dspy.faults import HostError
from tower_dspy.lm_call import HOST_ID, TAKEN_FROM, placeholder

_ADDRESSES = ("api_base", "base_url")

# What predictors had before a load gave them an LM.
_before: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def build(config: dict[str, Any]) -> dspy.LM:
    """The LM of a host's configuration."""
    options = dict(config.get("options", {}))
    if config["keyed"]:
        options["api_key"] = placeholder(config["id"])
    if config.get("base_url"):
        options["api_base"] = config["base_url"]
    try:
        lm = dspy.LM(config["model"], cache=False, num_retries=0, **options)
        _prepare(lm)
    except HostError:
        raise
    except Exception as error:
        raise HostError("lm", f"the LM `{config['model']}` is not usable: {error}") from error
    return _number(lm, config["id"])


def configs(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The configurations of all LMs of a load request, the program's usual one first."""
    usual = spec.get("lm")
    return ([usual] if usual else []) + list(spec.get("lms", ()))


def ids(*lms: Any) -> tuple[int, ...]:
    """The host's numbers of these LMs, each once."""
    numbers = (getattr(lm, HOST_ID, None) for lm in lms)
    return tuple(dict.fromkeys(number for number in numbers if number is not None))


def apart(program: Any, target: str) -> Any:
    """The program with the LMs that its code gave it.

    A copy of it where a load before gave predictors of it an LM: each load has a program of its
    own, and the LMs of the one before may be gone.
    """
    predictors = dict(program.named_predictors())
    before = {name: _before[own] for name, own in predictors.items() if own in _before}
    if not before:
        return program
    lms = (*before.values(), *(predictor.lm for predictor in predictors.values()))
    try:
        program = copy.deepcopy(program, {id(lm): lm for lm in lms})
    except Exception as error:
        raise HostError(
            "own_lm",
            f"`{target}` was loaded before, and there is no copy for this load: {error!r}; load it "
            "by the name of its class or of a factory",
        ) from error
    for name, predictor in program.named_predictors():
        if name in before:
            predictor.lm = before[name]
    return program


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
        _set(predictors[predictor], named[lm])


def rebind(port: Any, program: Any, configs: list[dict[str, Any]], usual: Any = None) -> None:
    """Takes the predictors' own LMs over, each once.

    An LM of a predictor's own, also one from a JSON state, is used instead of the `usual` one that
    the host gives.
    """
    taken = _by_own((usual,))
    for name, predictor in program.named_predictors():
        own = predictor.lm
        if own is not None and getattr(own, HOST_ID, None) is None:
            if id(own) not in taken:
                taken[id(own)] = take_over(port, own, configs, f"the predictor `{name}`")
            _set(predictor, taken[id(own)])


def _set(predictor: Any, lm: dspy.LM) -> None:
    _before.setdefault(predictor, predictor.lm)
    predictor.lm = lm


def take_over(port: Any, own: Any, configs: list[dict[str, Any]], owner: str) -> dspy.LM:
    """An LM of the program's own under the host's rules.

    It keeps its model, its options and its engine; retries and cache are turned off, and its calls
    have the key and the base URL of the host's LM that is like it, or its own, which the host then
    keeps, if the host has none at all.
    """
    if not isinstance(own, dspy.LM) or not isinstance(own.engine, str):
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own ({type(own).__name__}) that the host cannot take over; "
            "remove it, or make it a plain dspy.LM",
        )
    if not configs:
        lm_id, base_url, key = _adopted(port, own, owner)
    elif (config := _like(own.model, configs)) is not None:
        lm_id, base_url = config["id"], config.get("base_url")
        key = placeholder(lm_id) if config["keyed"] else None
        if base_url is None and _address(own) is not None:
            # That of the host is the provider's public one, where its prompts were not to go.
            base_url, key = _address(own), own.kwargs.get("api_key")
    else:
        models = ", ".join(f"`{config['model']}`" for config in configs)
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own, `{own.model}`, of another provider than the host's "
            f"{models}, so no key or base URL is known for it; remove it, or load the program with "
            "an LM of that provider as well, by `.lms(..)`",
        )
    try:
        taken = own.copy(num_retries=0, cache=False)
        for name in (*_ADDRESSES, "api_key"):
            taken.kwargs.pop(name, None)
        connection = {"api_base": base_url, "api_key": key}
        taken.kwargs.update({name: value for name, value in connection.items() if value})
        _prepare(taken)
    except HostError:
        raise
    except Exception as error:
        raise HostError(
            "own_lm", f"{owner} has an LM of its own, `{own.model}`, that cannot be used: {error}"
        ) from error
    setattr(taken, TAKEN_FROM, own)
    return _number(taken, lm_id)


def stand_ins(program: Any, usual: Any) -> dict[int, dspy.LM]:
    """What was taken over, by the ids of the program's own LMs, which it may have kept."""
    predictors = program.predictors() if isinstance(program, dspy.Module) else ()
    return _by_own((usual, *(predictor.lm for predictor in predictors)))


def _by_own(lms: Any) -> dict[int, dspy.LM]:
    return {
        id(lm.__dict__[TAKEN_FROM]): lm for lm in lms if TAKEN_FROM in getattr(lm, "__dict__", ())
    }


def refuse_lost_address(path: str) -> None:
    """Refuses a JSON state whose LMs had addresses, as DSPy leaves those out when it loads it.

    Their prompts would go to the provider's public address.
    """
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
    except (OSError, ValueError):
        return  # loading it says what is wrong
    for name, part in state.items() if isinstance(state, dict) else ():
        lm = part.get("lm") if isinstance(part, dict) else None
        for key in _ADDRESSES if isinstance(lm, dict) else ():
            if lm.get(key):
                raise HostError(
                    "state",
                    f"in the state `{path}` the LM `{lm.get('model')}` of `{name}` has the address "
                    f"`{lm[key]}`, which DSPy leaves out when it loads a state: its prompts would "
                    "go to the provider's public address. Load the program with that LM and its "
                    "`base_url`, by `.lm(..)`",
                )


def _adopted(port: Any, own: dspy.LM, owner: str) -> tuple[int, str | None, str | None]:
    """The number, the address and the key of an LM that the host knows from now on."""
    base_url = _address(own)
    key = own.kwargs.get("api_key")
    try:
        # A function that makes keys stays DSPy's: to the host, the LM has none.
        lm_id, keyed = port.adopt_lm(own.model, base_url, "" if callable(key) else key)
    except ValueError as error:
        raise HostError("own_lm", f"{owner} has an LM of its own: {error}") from error
    return lm_id, base_url, placeholder(lm_id) if keyed else key


def _address(own: dspy.LM) -> str | None:
    return next((own.kwargs[name] for name in _ADDRESSES if own.kwargs.get(name)), None)


def _number(lm: dspy.LM, lm_id: int) -> dspy.LM:
    setattr(lm, HOST_ID, lm_id)
    return lm


def _prepare(lm: dspy.LM) -> None:
    """Has what the first call of an LM would import imported now; refuses an unknown provider."""
    if select_backend(lm).native:
        return
    from dspy.clients._litellm import get_litellm

    litellm = get_litellm(feature="dspy.LM")
    provider, separator, _ = lm.model.partition("/")
    known = {str(getattr(name, "value", name)) for name in litellm.provider_list}
    if separator and provider not in known and "custom_llm_provider" not in lm.kwargs:
        close = difflib.get_close_matches(provider.lower(), known, n=1)
        raise HostError(
            "lm",
            f"the LM `{lm.model}` is not usable: DSPy and litellm know no provider `{provider}`"
            + (f"; did you mean `{close[0]}`?" if close else "")
            + ". A server with OpenAI's API is `openai/<model>` with a `base_url`",
        )


def _like(model: str, configs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The configuration for the same model, else the first for the same provider."""
    same_model = (config for config in configs if config["model"] == model)
    provider = _provider(model)
    same_provider = (config for config in configs if _provider(config["model"]) == provider)
    return next(same_model, None) or next(same_provider, None)


def _provider(model: str) -> str:
    return model.split("/", 1)[0] if "/" in model else "openai"
