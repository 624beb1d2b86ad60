"""The serializer of `dspy.Type`, which makes objects with fields while an answer is serialised.

DSPy's own serializer makes a marked text for a prompt. Installed when this module is imported, also
without a host: `tower_dspy.partial` serialises as a host does.
"""

import types
from contextvars import ContextVar
from typing import Any

from dspy import Code, Reasoning, Tool
from dspy.adapters.types.base_type import Type

# Set while an answer is serialised. At other times DSPy makes prompts of its types.
AS_FIELDS: ContextVar[bool] = ContextVar("tower_dspy_as_fields", default=False)


def is_text(cls: type) -> bool:
    """Whether a type of DSPy is a text in an answer, as it is in DSPy's own dump."""
    return issubclass(cls, Code | Reasoning | Tool)


def _dump_type(self: Type) -> Any:
    if not AS_FIELDS.get() or is_text(type(self)):
        return _original(self)
    kept = [name for name, info in type(self).model_fields.items() if not info.exclude]
    return {name: getattr(self, name) for name in kept} | (self.__pydantic_extra__ or {})


def _serialize_model(self: Any) -> Any:
    # This code runs with the globals of DSPy's module.
    from tower_dspy.patches.type_serializer import _dump_type

    return _dump_type(self)


def _replace_code() -> types.FunctionType:
    """Replaces the code of the serializer; returns a function with the original code.

    Pydantic compiled the function itself into the schema of each type and of each model that holds
    one. So the function has to stay.
    """
    function = Type.serialize_model
    if not hasattr(function, "_original"):
        function._original = types.FunctionType(function.__code__, function.__globals__)
        function.__code__ = _serialize_model.__code__
    return function._original


_original = _replace_code()
