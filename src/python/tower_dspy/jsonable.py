"""What a program answers, as plain JSON data."""

from __future__ import annotations

import math
import types
from contextvars import ContextVar
from typing import Any

from dspy import Code, Prediction, Reasoning, Tool
from dspy.adapters.types.base_type import Type
from pydantic_core import to_jsonable_python

from tower_dspy.utf8 import to_utf8

# Set while this module serialises. Elsewhere DSPy makes prompts of its types.
_AS_FIELDS: ContextVar[bool] = ContextVar("tower_dspy_as_fields", default=False)


def to_json_data(value: Prediction | dict[str, Any]) -> dict[str, Any]:
    """A dict or a `dspy.Prediction` as dicts, lists, strings, numbers, booleans and None.

    Types of DSPy become objects with their fields, and values of numpy plain numbers and lists.

    Raises:
        ValueError: JSON has no value for a part of it; the message names the part.
        RecursionError: it is nested too deep.
    """
    token = _AS_FIELDS.set(True)
    try:
        # A model's fields under their own names, whether a Prediction holds it or a dict.
        fields = Prediction(value).toDict()
        try:
            data = _dump(fields)
        except RecursionError:
            raise
        except Exception as error:
            raise ValueError(f"{_place_of_failure(fields)}{error}") from error
    finally:
        _AS_FIELDS.reset(token)
    if (way := _way_to_no_number(data)) is not None:
        number, *keys = way
        place = ".".join(map(str, reversed(keys)))
        raise ValueError(f"JSON has no number for {number}, at `{place}`; use None instead")
    return data


def _dump(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return to_jsonable_python(fields, fallback=_plain)
    except UnicodeEncodeError:
        # It takes lone surrogates in values, but not in the keys of a dict.
        return to_jsonable_python(_with_valid_keys(fields), fallback=_plain)


def _with_valid_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            to_utf8(key).decode() if isinstance(key, str) else key: _with_valid_keys(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_valid_keys(item) for item in value]
    return value


def is_text(cls: type) -> bool:
    """Whether a type of DSPy is a text in an answer, as it is in DSPy's own dump."""
    return issubclass(cls, Code | Reasoning | Tool)


def _plain(value: Any) -> Any:
    """A value that pydantic does not know."""
    if hasattr(value, "toDict"):  # a Prediction or an Example in a list or a dict
        return value.toDict()
    # Numpy's, known by its shape: numpy itself may not be installed.
    if hasattr(value, "dtype"):
        for name in ("tolist", "item"):
            if callable(convert := getattr(value, name, None)):
                return convert()
    raise TypeError(
        f"JSON has no value for a {type(value).__name__}; use a dict, a list, a string, a number "
        "or a pydantic model instead"
    )


def _place_of_failure(fields: dict[str, Any]) -> str:
    for name, value in fields.items():
        try:
            to_jsonable_python(value, fallback=_plain)
        except Exception:
            return f"`{name}`: "
    return ""


def _way_to_no_number(data: Any) -> list[Any] | None:
    """The first NaN or infinity, and the keys that lead to it, the innermost first."""
    if isinstance(data, float):
        return None if math.isfinite(data) else [data]
    if isinstance(data, dict):
        entries = data.items()
    elif isinstance(data, list):
        entries = enumerate(data)
    else:
        return None
    for key, item in entries:
        if (way := _way_to_no_number(item)) is not None:
            way.append(key)
            return way
    return None


def _dump_type(self: Type) -> Any:
    """Replaces the serializer of `dspy.Type`, which makes a marked text for a prompt."""
    if not _AS_FIELDS.get() or is_text(type(self)):
        return _for_prompts(self)
    kept = [name for name, info in type(self).model_fields.items() if not info.exclude]
    return {name: getattr(self, name) for name in kept} | (self.__pydantic_extra__ or {})


def _serialize_model(self: Any) -> Any:
    # This code runs with the globals of DSPy's module.
    from tower_dspy.jsonable import _dump_type

    return _dump_type(self)


def _replace_serializer() -> types.FunctionType:
    """Makes `dspy.Type` dump by `_dump_type`; returns the serializer that was there.

    Pydantic compiled the function itself into the schema of each type and of each model that holds
    one. So the function stays, and gets other code.
    """
    function = Type.serialize_model
    if not hasattr(function, "_for_prompts"):
        function._for_prompts = types.FunctionType(function.__code__, function.__globals__)
        function.__code__ = _serialize_model.__code__
    return function._for_prompts


_for_prompts = _replace_serializer()
