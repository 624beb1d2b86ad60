"""Memoization of values that DSPy computes for each LM call from the LM and its options alone.

The model's route, its capabilities and prices, and the plan of a request: together more than half
of a prediction's time. And the credentials of a cloud, which each engine would find anew.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dspy.adapters import utils
from dspy.clients import backend_selection, capabilities, costs
from dspy.clients.engines import lm15_engine

from tower_dspy.patches.replace import replace, when_imported

# Providers may answer with any model's name, and programs may vary their options.
_MOST = 256


def install() -> None:
    """Installs the patch."""
    replace(backend_selection, "LM15Engine", _memoized(_engine_key))
    for module in (costs, capabilities):
        replace(module, "model_info", _memoized(_model_info_key))
    replace(capabilities, "resolve", _memoized(_resolution_key))
    replace(capabilities, "_capabilities", _memoized(_capabilities_key))
    replace(utils, "TypeAdapter", _memoized(_type_adapter_key))
    # The route of a model, whatever the options of a call.
    replace(lm15_engine._Routing, "resolve", _per_engine(lambda model: model))
    # Requests of texts with the same options share one.
    replace(lm15_engine._Routing, "plan", _per_engine(_plan_key))
    when_imported("dspy._vendor.lm15.cloud.chains", _share_credentials)


def _share_credentials(chains: ModuleType) -> None:
    """Makes the engines for async and for sync code share what finds a cloud's credentials."""
    replace(chains, "credential_provider", _memoized(_credential_key))


class _Memo:
    """Values by their keys; all are dropped when there are too many."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key; not stored for None and for a key that has no hash."""
        try:
            return self._values[key]
        except KeyError:
            value = make()
        except TypeError:  # such as an option of a type of its own
            return make()
        if key is not None:
            if len(self._values) >= _MOST:
                self._values.clear()
            self._values[key] = value
        return value


def _memoized(key: Callable[..., Any]) -> Callable[[Any], Any]:
    """Makes a memoized function, whose values are stored by the `key` of its arguments."""

    def make(compute: Any) -> Any:
        memo = _Memo()

        @functools.wraps(compute, updated=())
        def memoized(*args: Any, **kwargs: Any) -> Any:
            return memo.get(key(*args, **kwargs), lambda: compute(*args, **kwargs))

        return memoized

    return make


def _engine_key(config: Any, *, model_type: Any) -> Any:
    """The key of an engine that only chooses a route, for which DSPy reads no environment."""
    return config.providers, model_type


def _credential_key(policy: Any, context: Any, named: str | None = None) -> Any:
    settings, environment = sorted(context.settings.items()), sorted(context.env.items())
    return policy.provider, named, context.offline, tuple(settings), tuple(environment)


def _capabilities_key(lm: Any, options: Any = None) -> Any:
    # Others depend on litellm's tables, which a program may change.
    if isinstance(lm.engine, str) and backend_selection.select_backend(lm, options).native:
        return _resolution_key(lm)
    return None


def _resolution_key(lm: Any) -> Any:
    return lm.model, lm.model_type, getattr(lm, "_providers", ())


def _model_info_key(provider: Any, model: Any, *, namespaces: Any = None) -> Any:
    return provider, model, None if namespaces is None else tuple(namespaces)


def _type_adapter_key(annotation: Any) -> Any:
    """A class: making its adapter takes longer than using it.

    Only that: `int | str` and `str | int` are equal, but read a value differently.
    """
    is_class = isinstance(annotation, type) and not hasattr(annotation, "__origin__")
    return annotation if is_class else None


def _per_engine(key: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Makes a memoized method of an engine, whose values are stored in the engine."""

    def make(method: Any) -> Any:
        name = f"_tower_dspy_{method.__name__}"

        @functools.wraps(method)
        def memoized(engine: Any, argument: Any) -> Any:
            memo = vars(engine).setdefault(name, _Memo())
            return memo.get(key(argument), lambda: method(engine, argument))

        return memoized

    return make


def _plan_key(request: Any) -> Any:
    """The key of a plan; None if it depends on the content of a message."""
    if request.tools or not isinstance(request.system, str | None):
        return None
    if any(part.type != "text" for message in request.messages for part in message.parts):
        return None
    roles = tuple(message.role for message in request.messages)
    return request.model, roles, request.system is None, repr(request.config)
