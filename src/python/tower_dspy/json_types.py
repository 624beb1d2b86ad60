"""The JSON types of a Python type, read from pydantic's core schema.

A JSON schema is not enough: it describes a type, not the values that validators before it accept.
Only kinds of core schema with a certain JSON form have types; for all others any JSON value is let
through, and pydantic validates it.
"""

import enum
from typing import Any

from dspy.adapters.types.base_type import Type

from tower_dspy.patches.type_serializer import is_text

# The kinds of core schema with the same JSON types.
_BOTH = "number", "string"
_KINDS = {
    ("boolean",): "bool",
    ("integer",): "int",
    ("null",): "none",
    ("number",): "float",
    ("string",): "bytes date str url uuid",
    _BOTH: "datetime decimal time timedelta",
    ("array",): "frozenset generator list set tuple",
    ("object",): "dataclass-args dict model-fields typed-dict",
}
_INPUTS = {kind: list(types) for types, kinds in _KINDS.items() for kind in kinds.split()}
# Numbers are read, but not written.
_OUTPUTS = {**_INPUTS, **{kind: ["string"] for kind in _KINDS[_BOTH].split()}}

# The key of the inner schema that validates a JSON value, by kind of schema.
_INNER = {
    "custom-error": "schema",
    "dataclass": "schema",
    "default": "schema",
    "function-after": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "lax_schema",
    "model": "schema",
}

# Their function sees the value first, and may accept anything.
_VALIDATED_BEFORE = ("function-before", "function-wrap")

_OF_LITERALS = {str: "string", int: "integer", bool: "boolean", type(None): "null"}


def of_input(schema: Any) -> list[str] | None:
    """The JSON types that may become a value of this core schema; None if any may."""
    return _Reader(_INPUTS, serialized=False).read(schema)


def of_output(schema: Any) -> list[str] | None:
    """The JSON types that a value of this core schema may become; None if they are not known."""
    return _Reader(_OUTPUTS, serialized=True).read(schema)


class _Reader:
    def __init__(self, kinds: dict[str, list[str]], serialized: bool) -> None:
        self._kinds = kinds
        self._serialized = serialized
        self._definitions: dict[str, Any] = {}

    def read(self, schema: Any) -> list[str] | None:
        kind = schema["type"]
        if kind in self._kinds:
            return self._kinds[kind]
        if kind == "definitions":
            self._definitions.update((part["ref"], part) for part in schema["definitions"])
            return self.read(schema["schema"])
        if kind == "definition-ref":
            found = self._definitions.get(schema["schema_ref"])
            return None if found is None else self.read(found)
        if kind == "nullable":
            return _union([["null"], self.read(schema["schema"])])
        if kind == "union":
            choices = [part[0] if isinstance(part, tuple) else part for part in schema["choices"]]
            return _union([self.read(choice) for choice in choices])
        if kind == "tagged-union":
            return _union([self.read(choice) for choice in schema["choices"].values()])
        if kind == "literal":
            return _of_values(schema["expected"])
        if kind == "enum":
            # With a `_missing_` it may make members of any value.
            usual = schema["cls"]._missing_.__func__ is enum.Enum._missing_.__func__
            return _of_values(schema["members"]) if self._serialized or usual else None
        if kind == "model" and self._serialized and "serialization" in schema:
            return self._of_serializer(schema)
        if kind in _INNER or (self._serialized and kind in _VALIDATED_BEFORE):
            return self.read(schema[_INNER.get(kind, "schema")])
        return None

    def _of_serializer(self, schema: Any) -> list[str] | None:
        cls = schema["cls"]
        if issubclass(cls, Type):
            if is_text(cls):
                return ["string"]
            if cls.serialize_model is Type.serialize_model:
                return ["object"]
        returned = schema["serialization"].get("return_schema")
        return None if returned is None else self.read(returned)


def _of_values(values: list[Any]) -> list[str] | None:
    plain = [value.value if isinstance(value, enum.Enum) else value for value in values]
    types = {_OF_LITERALS.get(type(value)) for value in plain}
    return list(types) if len(types) == 1 and None not in types else None


def _union(parts: list[list[str] | None]) -> list[str] | None:
    return None if None in parts else sorted(set().union(*parts))
