"""The LMs of a program: DSPy's own, with the keys and addresses of the host's configuration.

DSPy chooses the engine of each, as it does without a host; the transports are the host's, see
patches/lm15.py and patches/httpx.py.
"""

import copy
import difflib
import json
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy.clients.backend_selection import select_backend

from tower_dspy import prices
from tower_dspy.faults import HostError, host_error
from tower_dspy.lm_call import HOST_ID, REPLACES, placeholder
from tower_dspy.lm_group import combine, single_lms

_ADDRESSES = ("api_base", "base_url")

# The LMs that predictors had before a load assigned them one.
_original_lms: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def build_lm(config: dict[str, Any]) -> dspy.LM:
    """Makes the LM of a host's configuration."""
    if "members" in config:
        return combine([build_lm(member) for member in config["members"]], config)
    options = dict(config.get("options", {}))
    if config["keyed"]:
        options["api_key"] = placeholder(config["id"])
    if config.get("base_url"):
        options["api_base"] = config["base_url"]
    with host_error("lm", f"the LM `{config['model']}` is not usable"):
        lm = dspy.LM(config["model"], cache=False, num_retries=0, **options)
        _prepare(lm)
    setattr(lm, HOST_ID, config["id"])
    return lm


def host_ids(*lms: Any) -> tuple[int, ...]:
    """The host's numbers of these LMs, each once."""
    numbers = (getattr(single, HOST_ID, None) for lm in lms for single in single_lms(lm))
    return tuple(dict.fromkeys(number for number in numbers if number is not None))


def with_original_lms(program: Any, target: str) -> Any:
    """The program with the LMs that its code assigned.

    A copy of it if an earlier load assigned LMs to its predictors: each load has a program of its
    own, and the LMs of the earlier one may be gone.
    """
    predictors = dict(program.named_predictors())
    originals = {
        name: _original_lms[own] for name, own in predictors.items() if own in _original_lms
    }
    if not originals:
        return program
    lms = (*originals.values(), *(predictor.lm for predictor in predictors.values()))
    try:
        program = copy.deepcopy(program, {id(lm): lm for lm in lms})
    except Exception as error:
        raise HostError(
            "own_lm",
            f"`{target}` was loaded before, and there is no copy for this load: {error!r}; load it "
            "by the name of its class or of a factory",
        ) from error
    for name, predictor in program.named_predictors():
        if name in originals:
            predictor.lm = originals[name]
    return program


def assign_lms(program: Any, choices: Any, named: dict[str, dspy.LM], target: str) -> None:
    """Assigns to predictors the LMs that the load request names for them."""
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


def take_over_lms(
    host: Any, program: Any, configs: list[dict[str, Any]], usual: Any = None
) -> None:
    """Takes over the predictors' own LMs, each once.

    An LM of a predictor, also from a JSON state, is used instead of the `usual` one of the host.
    """
    taken = _by_replaced((usual,))
    for name, predictor in program.named_predictors():
        own = predictor.lm
        if own is not None and getattr(own, HOST_ID, None) is None:
            if id(own) not in taken:
                taken[id(own)] = take_over(host, own, configs, f"the predictor `{name}`")
            _set(predictor, taken[id(own)])


def _set(predictor: Any, lm: dspy.LM) -> None:
    _original_lms.setdefault(predictor, predictor.lm)
    predictor.lm = lm


def take_over(host: Any, own: Any, configs: list[dict[str, Any]], owner: str) -> dspy.LM:
    """A copy of an LM of the program, which goes through the host.

    It keeps its model, its options and its engine. Retries and cache are turned off. Its key and
    base URL are those of the host's LM of the same model or provider; if the host has no LM, it
    keeps its own, and the host holds the key.
    """
    if not isinstance(own, dspy.LM) or not isinstance(own.engine, str):
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own ({type(own).__name__}) that the host cannot take over; "
            "remove it, or make it a plain dspy.LM",
        )
    if not configs:
        lm_id, base_url, key = _register(host, own, owner)
    elif (config := _similar(own.model, configs)) is not None:
        lm_id, base_url = config["id"], config.get("base_url")
        key = placeholder(lm_id) if config["keyed"] else None
        if base_url is None and _address(own) is not None:
            # The host's is the provider's public address, where these prompts must not go.
            base_url, key = _address(own), own.kwargs.get("api_key")
    else:
        models = ", ".join(f"`{config['model']}`" for config in configs)
        raise HostError(
            "own_lm",
            f"{owner} has an LM of its own, `{own.model}`, of another provider than the host's "
            f"{models}, so no key or base URL is known for it; remove it, or load the program with "
            "an LM of that provider as well, by `.lms(..)`",
        )
    with host_error("own_lm", f"{owner} has an LM of its own, `{own.model}`, that cannot be used"):
        taken = own.copy(num_retries=0, cache=False)
        for name in (*_ADDRESSES, "api_key"):
            taken.kwargs.pop(name, None)
        connection = {"api_base": base_url, "api_key": key}
        taken.kwargs.update({name: value for name, value in connection.items() if value})
        _prepare(taken)
    setattr(taken, REPLACES, own)
    setattr(taken, HOST_ID, lm_id)
    return taken


def replaced_lms(program: Any, usual: Any) -> dict[int, dspy.LM]:
    """The LMs that were taken over, by the ids of the program's own ones."""
    predictors = program.predictors() if isinstance(program, dspy.Module) else ()
    return _by_replaced((usual, *(predictor.lm for predictor in predictors)))


def _by_replaced(lms: Any) -> dict[int, dspy.LM]:
    return {id(lm.__dict__[REPLACES]): lm for lm in lms if REPLACES in getattr(lm, "__dict__", ())}


def reject_lost_address(path: str) -> None:
    """Rejects a JSON state with addresses of LMs, as DSPy drops those when it loads the state.

    Their prompts would go to the provider's public address.
    """
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
    except (OSError, ValueError):
        return  # the load reports what is wrong
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


def _register(host: Any, own: dspy.LM, owner: str) -> tuple[int, str | None, str | None]:
    """Registers an LM with the host; returns its number, its address and its key."""
    base_url = _address(own)
    key = own.kwargs.get("api_key")
    with host_error("own_lm", f"{owner} has an LM of its own"):
        # A function that makes keys is called by DSPy: for the host the LM has none.
        lm_id, keyed = host.adopt_lm(own.model, base_url, "" if callable(key) else key)
    return lm_id, base_url, placeholder(lm_id) if keyed else key


def _address(own: dspy.LM) -> str | None:
    return next((own.kwargs[name] for name in _ADDRESSES if own.kwargs.get(name)), None)


def _prepare(lm: dspy.LM) -> None:
    """Imports what the first call of an LM needs; rejects an unknown provider."""
    _import_client(lm)
    prices.load(lm)


def _import_client(lm: dspy.LM) -> None:
    if select_backend(lm).native:
        return
    # Here, as it needs litellm, which few programs do.
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


def _similar(model: str, configs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The configuration for the same model, else the first for the same provider."""
    same_model = (config for config in configs if config["model"] == model)
    provider = _provider(model)
    same_provider = (config for config in configs if _provider(config["model"]) == provider)
    return next(same_model, None) or next(same_provider, None)


def _provider(model: str) -> str:
    return model.split("/", 1)[0] if "/" in model else "openai"
