"""Memoization of values that DSPy computes for each LM call from the LM and its options alone.

The backend of the call, its capabilities, the plan of its request and the model's prices: together
more than half of a prediction's time.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

from dspy.adapters import utils
from dspy.clients import backend_selection, capabilities, costs, execution
from dspy.clients.engines import lm15_engine

from tower_dspy.patches.replace import replace

# Providers may answer with any model's name, and programs may vary their options.
_MOST = 256


def install() -> None:
    """Installs the patch."""
    for module in (execution, capabilities):
        replace(module, "select_backend", _selection)
    for module in (costs, capabilities):
        replace(module, "model_info", _model_info)
    replace(capabilities, "resolve", _resolution)
    replace(capabilities, "_capabilities", _capabilities)
    replace(utils, "TypeAdapter", _type_adapter)
    replace(lm15_engine._Routing, "plan", _plan)


class _Memo:
    """Values by their keys; the oldest are dropped."""

    def __init__(self) -> None:
        self._values: OrderedDict[Any, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        try:
            return self._values[key]
        except KeyError:
            value = make()
        except TypeError:  # a key that cannot be hashed, such as an option of a type of its own
            return make()
        with self._lock:
            self._values[key] = value
            if len(self._values) > _MOST:
                self._values.popitem(last=False)
        return value


def _selection(select: Any) -> Any:
    memo = _Memo()

    @functools.wraps(select)
    def select_backend(lm: Any, options: Any = None) -> Any:
        if not isinstance(lm._engine_spec, str):
            return select(lm, options)
        return memo.get(_key(lm, options), lambda: select(lm, options))

    return select_backend


def _key(lm: Any, options: Any) -> Any:
    """The key of all that the choice of a backend depends on."""
    prefix = lm.model.split("/", 1)[0].upper()
    environment = (f"{prefix}_API_BASE", f"{prefix}_BASE_URL", "XAI_API_KEY")
    return (
        lm._engine_spec,
        lm.model,
        lm.model_type,
        getattr(lm, "_providers", ()),
        tuple(map(os.environ.get, environment)),
        _client_options(lm.kwargs),
        _client_options(options or {}),
    )


def _capabilities(find: Any) -> Any:
    memo = _Memo()

    @functools.wraps(find)
    def capabilities_of(lm: Any, options: Any = None) -> Any:
        # A program may change litellm's tables.
        if not isinstance(lm.engine, str) or not execution.select_backend(lm, options).native:
            return find(lm, options)
        return memo.get(_key(lm, options), lambda: find(lm, options))

    return capabilities_of


def _type_adapter(make: Any) -> Any:
    """Memoizes pydantic's adapters of classes: making one takes longer than using it.

    Of classes alone: `int | str` and `str | int` are equal, but read a value differently.
    """
    memo = _Memo()

    def type_adapter(annotation: Any) -> Any:
        if not isinstance(annotation, type) or hasattr(annotation, "__origin__"):
            return make(annotation)
        return memo.get(annotation, lambda: make(annotation))

    return type_adapter


def _client_options(options: dict[str, Any]) -> tuple[Any, ...]:
    keys = backend_selection.CLIENT_KEYS
    return tuple((key, _hashable(options[key])) for key in sorted(keys & options.keys()))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return value


def _resolution(resolve: Any) -> Any:
    memo = _Memo()

    @functools.wraps(resolve)
    def resolved(lm: Any) -> Any:
        key = (lm.model, lm.model_type, getattr(lm, "_providers", ()))
        return memo.get(key, lambda: resolve(lm))

    return resolved


def _model_info(look_up: Any) -> Any:
    memo = _Memo()

    @functools.wraps(look_up)
    def model_info(provider: Any, model: Any, *, namespaces: Any = None) -> dict[str, Any]:
        names = None if namespaces is None else tuple(namespaces)
        return memo.get(
            (provider, model, names), lambda: look_up(provider, model, namespaces=namespaces)
        )

    return model_info


def _plan(plan: Any) -> Any:
    """Memoizes plans: requests of texts with the same options share one."""

    @functools.wraps(plan)
    def planned(engine: Any, request: Any) -> Any:
        shape = _shape(request)
        if shape is None:
            return plan(engine, request)
        memo = engine.__dict__.setdefault("_tower_dspy_plans", _Memo())
        return memo.get(shape, lambda: plan(engine, request))

    return planned


def _shape(request: Any) -> Any:
    """The key of a plan; None if it depends on the content of a message."""
    if request.tools or not isinstance(request.system, str | None):
        return None
    if any(part.type != "text" for message in request.messages for part in message.parts):
        return None
    roles = tuple(message.role for message in request.messages)
    return request.model, roles, request.system is None, repr(request.config)
