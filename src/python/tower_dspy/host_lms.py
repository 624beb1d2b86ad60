"""The LMs of a program: DSPy's own, with the keys and addresses of the host's configuration.

DSPy chooses the engine of each, as it does without a host; the transports are the host's, see
patches/lm15.py and patches/httpx.py.
"""

import copy
import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import dspy
from dspy._vendor.lm15.registry import lookup
from dspy.clients.backend_selection import BackendSelection, select_backend

from tower_dspy import lm_address, prices
from tower_dspy.faults import HostError, host_error
from tower_dspy.lm_call import HOST_ID, REPLACES, placeholder
from tower_dspy.lm_group import combine, single_lms
from tower_dspy.load_steps import Steps, run_steps

_log = logging.getLogger("tower_dspy.program")

T = TypeVar("T")

_ADDRESSES = ("api_base", "base_url")

# The LMs that predictors had before a load assigned them one.
_original_lms: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def build_lm(host: Any, config: dict[str, Any]) -> dspy.LM:
    """Makes the LM of a host's configuration at once, see `building_steps`."""
    return run_steps(building_steps(host, config))


def building_steps(host: Any, config: dict[str, Any]) -> Steps[dspy.LM]:
    """Makes the LM of a host's configuration, and has the host find its key and its address.

    Yields for a thread what waits for a cloud: where there is no key, credentials are looked for on
    the network and by commands. Also what litellm does, which imports modules as it is used. Adds
    to the configuration whether the LM is `keyed`: Python has a placeholder for its key.
    """
    if "members" in config:
        members = []
        for member in config["members"]:
            members.append((yield from building_steps(host, member)))
        return combine(members, config)
    options = dict(config.get("options", {}))
    options["api_key"] = placeholder(config["id"])
    if config.get("base_url"):
        options["api_base"] = config["base_url"]
    with host_error("lm", f"the LM `{config['model']}` is not usable"):
        lm = dspy.LM(config["model"], cache=False, num_retries=0, **options)
        config["keyed"] = yield from _resolve(host, lm, config)
    setattr(lm, HOST_ID, config["id"])
    return lm


def _resolve(host: Any, lm: dspy.LM, config: dict[str, Any]) -> Steps[bool]:
    """Has the host find the key and the address of an LM; returns whether the LM is keyed."""
    is_native = select_backend(lm).native
    selection = yield from _step(not is_native, lambda: _prepare(lm))
    provider = lm_address.Provider()
    if not config.get("has_key"):
        provider = yield from _step(not is_native, lambda: lm_address.provider_of(lm, selection))
    variables, has_credentials = provider.variables, provider.has_credentials
    if config.get("key_env"):
        variables = [config["key_env"], *variables]
    keyed = not has_credentials or host.resolve_lm(config["id"], None, variables, True)
    if not keyed:
        del lm.kwargs["api_key"]
    url = None
    if not (is_native and keyed and config.get("base_url")):
        try:
            url = yield from _step(not (is_native and keyed), lambda: lm_address.requested(lm))
        except HostError:
            raise
        except Exception as error:
            _check_usable(host, lm, config, variables, keyed, error)
    has_key = host.resolve_lm(config["id"], url, variables, has_credentials)
    if provider.needs_key and url is not None and not has_key:
        raise ValueError(_no_key(variables))
    if url is None and not config.get("base_url"):
        raise ValueError("it has no address; give it one by `Lm::base_url`")
    return keyed


def _step(is_long: bool, work: Callable[[], T]) -> Steps[T]:
    """Returns what the work returns; yields it for a thread if it may take long."""
    return (yield work) if is_long else work()


def _no_key(variables: list[str]) -> str:
    return (
        f"there is no key: set ${variables[0]}, or give it by `Lm::key`, which takes an empty one "
        "for a server without keys"
    )


def _check_usable(
    host: Any,
    lm: dspy.LM,
    config: dict[str, Any],
    variables: list[str],
    keyed: bool,
    error: Exception,
) -> None:
    """Raises unless the failure of a dry run may be one of that request alone."""
    if not keyed:
        # Its library found no credentials either, or not all of the address.
        try:
            host.resolve_lm(config["id"], None, variables, False)
        except ValueError as no_key:
            raise ValueError(f"{no_key}. Without a key: {error}") from error
        if variables and _is_usable_with_key(lm, config):
            raise ValueError(f"{_no_key(variables)}. Without a key: {error}") from error
    if config.get("base_url") is None:
        raise error
    _log.debug("the dry run of `%s` failed: %r", config["model"], error)


def _is_usable_with_key(lm: dspy.LM, config: dict[str, Any]) -> bool:
    try:
        return lm_address.requested(lm.copy(api_key=placeholder(config["id"]))) is not None
    except Exception:
        return False


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
        lm_id = host.adopt_lm(own.model, base_url, "" if callable(key) else key)
        keyed = not callable(key) and _resolve_own(host, own, lm_id, base_url)
    return lm_id, base_url, placeholder(lm_id) if keyed else key


def _resolve_own(host: Any, own: dspy.LM, lm_id: int, base_url: str | None) -> bool:
    """Has the host find the key and the address of a program's own LM.

    Returns whether the host has the key; an LM whose address is not found keeps its own.
    """
    selection = lm_address.prepare(own)
    provider = lm_address.provider_of(own, selection)
    variables, has_credentials = provider.variables, provider.has_credentials
    url = base_url
    if url is None:
        tried = own.copy(num_retries=0, cache=False)
        # The program's own, which would take it for a call.
        tried.callbacks = []
        if not has_credentials:
            tried.kwargs["api_key"] = placeholder(lm_id)
        try:
            url = lm_address.requested(tried)
        except Exception as error:
            _log.debug("the address of `%s` was not found: %r", own.model, error)
    if url is None:
        return False
    return host.resolve_lm(lm_id, url, variables, has_credentials)


def _address(own: dspy.LM) -> str | None:
    return next((own.kwargs[name] for name in _ADDRESSES if own.kwargs.get(name)), None)


def _prepare(lm: dspy.LM) -> BackendSelection:
    """Imports what the first call of an LM needs, and its price; rejects an unknown provider."""
    selection = lm_address.prepare(lm)
    prices.load(lm)
    return selection


def _similar(model: str, configs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The configuration for the same model, else the first for the same provider."""
    same_model = (config for config in configs if config["model"] == model)
    provider = _provider(model)
    same_provider = (config for config in configs if _provider(config["model"]) == provider)
    return next(same_model, None) or next(same_provider, None)


def _provider(model: str) -> str:
    head, separator, _ = model.partition("/")
    # The form of DSPy's own client.
    name, colon, _ = head.partition(":")
    if colon and lookup(name) is not None:
        return name
    return head if separator else "openai"
