"""What DSPy works out anew for each LM call, kept: it depends on the LM and its options alone.

Which backend serves the call, what that can do, whether its request can be built, and what the
model's entry in the table of prices says: together more than half of a prediction's time.
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
    """Makes the changes."""
    for module in (execution, capabilities):
        replace(module, "select_backend", _selection)
    for module in (costs, capabilities):
        replace(module, "model_info", _model_info)
    replace(capabilities, "resolve", _resolution)
    replace(capabilities, "_capabilities", _capabilities)
    replace(utils, "TypeAdapter", _type_adapter)
    replace(lm15_engine._Routing, "plan", _plan)


class _Kept:
    """The last values by their keys, of which the oldest go."""

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
    kept = _Kept()

    @functools.wraps(select)
    def select_backend(lm: Any, options: Any = None) -> Any:
        if not isinstance(lm._engine_spec, str):
            return select(lm, options)
        return kept.get(_key(lm, options), lambda: select(lm, options))

    return select_backend


def _key(lm: Any, options: Any) -> Any:
    """All that the choice of a backend depends on."""
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
    kept = _Kept()

    @functools.wraps(find)
    def capabilities_of(lm: Any, options: Any = None) -> Any:
        # litellm's tables are a program's to change.
        if not isinstance(lm.engine, str) or not execution.select_backend(lm, options).native:
            return find(lm, options)
        return kept.get(_key(lm, options), lambda: find(lm, options))

    return capabilities_of


def _type_adapter(make: Any) -> Any:
    """Pydantic's adapters of classes: making one takes longer than what it is used for.

    Of classes alone: `int | str` and `str | int` are equal, and read a value differently.
    """
    kept = _Kept()

    def type_adapter(annotation: Any) -> Any:
        if not isinstance(annotation, type) or hasattr(annotation, "__origin__"):
            return make(annotation)
        return kept.get(annotation, lambda: make(annotation))

    return type_adapter


def _client_options(options: dict[str, Any]) -> tuple[Any, ...]:
    keys = backend_selection.CLIENT_KEYS
    return tuple((key, _hashable(options[key])) for key in sorted(keys & options.keys()))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return value


def _resolution(resolve: Any) -> Any:
    kept = _Kept()

    @functools.wraps(resolve)
    def resolved(lm: Any) -> Any:
        key = (lm.model, lm.model_type, getattr(lm, "_providers", ()))
        return kept.get(key, lambda: resolve(lm))

    return resolved


def _model_info(look_up: Any) -> Any:
    kept = _Kept()

    @functools.wraps(look_up)
    def model_info(provider: Any, model: Any, *, namespaces: Any = None) -> dict[str, Any]:
        names = None if namespaces is None else tuple(namespaces)
        return kept.get(
            (provider, model, names), lambda: look_up(provider, model, namespaces=namespaces)
        )

    return model_info


def _plan(plan: Any) -> Any:
    """The plan of a request of texts is that of any other with the same options."""

    @functools.wraps(plan)
    def planned(engine: Any, request: Any) -> Any:
        shape = _shape(request)
        if shape is None:
            return plan(engine, request)
        kept = engine.__dict__.setdefault("_tower_dspy_plans", _Kept())
        return kept.get(shape, lambda: plan(engine, request))

    return planned


def _shape(request: Any) -> Any:
    """What a plan depends on, where that is not the content of a message."""
    if request.tools or not isinstance(request.system, str | None):
        return None
    if any(part.type != "text" for message in request.messages for part in message.parts):
        return None
    roles = tuple(message.role for message in request.messages)
    return request.model, roles, request.system is None, repr(request.config)
