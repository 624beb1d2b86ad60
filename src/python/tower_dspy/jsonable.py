"""The answer of a program as plain JSON data."""

import math
from typing import Any

from dspy import Prediction
from pydantic_core import to_jsonable_python

from tower_dspy.patches.type_serializer import AS_FIELDS
from tower_dspy.payload import to_utf8


def to_json_data(value: Prediction | dict[str, Any]) -> dict[str, Any]:
    """A dict or a `dspy.Prediction` as dicts, lists, strings, numbers, booleans and None.

    Types of DSPy become objects with their fields, and values of numpy plain numbers and lists.

    Raises:
        ValueError: JSON has no value for a part of it; the message names the part.
        RecursionError: it is nested too deep.
    """
    token = AS_FIELDS.set(True)
    try:
        # A model's fields under their own names, whether a Prediction holds it or a dict.
        fields = (value if isinstance(value, Prediction) else Prediction(value)).toDict()
        try:
            data = _dump(fields)
        except RecursionError:
            raise
        except Exception as error:
            raise ValueError(f"{_failing_field(fields)}{error}") from error
    finally:
        AS_FIELDS.reset(token)
    if (path := _path_to_nonfinite(data)) is not None:
        number, *keys = path
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


def _plain(value: Any) -> Any:
    """The plain data of a value that pydantic does not know."""
    if hasattr(value, "toDict"):  # a Prediction or an Example in a list or a dict
        return value.toDict()
    # A value of numpy, which may not be installed.
    if hasattr(value, "dtype"):
        for name in ("tolist", "item"):
            if callable(convert := getattr(value, name, None)):
                return convert()
    raise TypeError(
        f"JSON has no value for a {type(value).__name__}; use a dict, a list, a string, a number "
        "or a pydantic model instead"
    )


def _failing_field(fields: dict[str, Any]) -> str:
    for name, value in fields.items():
        try:
            to_jsonable_python(value, fallback=_plain)
        except Exception:
            return f"`{name}`: "
    return ""


def _path_to_nonfinite(data: Any) -> list[Any] | None:
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
        if (path := _path_to_nonfinite(item)) is not None:
            path.append(key)
            return path
    return None
