"""The schema of a program: its input and output fields, and the conversion of inputs."""

import contextlib
import functools
import inspect
import logging
import sys
import types
import typing
from typing import Any

import dspy
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined, to_json

from tower_dspy import json_types
from tower_dspy.faults import HostError
from tower_dspy.predictors import is_text

_log = logging.getLogger("tower_dspy")

# Names that DSPy takes for settings: as inputs they would replace the program's, its LM included.
PRIVILEGED = frozenset({"config", "signature", "demos", "lm"})

# A tuple, as some annotations cannot be hashed.
_PLAIN = (str, int, float, bool)


class Field:
    """One input field: its name, the JSON types that Rust checks, and its conversion."""

    def __init__(self, name: str, annotation: Any, required: bool) -> None:
        self.name = name
        self.required = required
        adapter = _adapter(annotation)
        if adapter is None and annotation is not Any:
            _log.warning("no type is known for the field `%s`: it takes any JSON value", name)
            annotation = Any
        self.expected = _type_name(annotation)
        if annotation is str:
            # DSPy lets a list of passages stand for a text, as in "context, question -> answer".
            self.types = ["string", "string_array"]
        else:
            self.types = adapter and json_types.of_input(adapter.core_schema)
        # Plain JSON types need no conversion once Rust has checked them.
        plain = annotation is Any or annotation in _PLAIN
        self.adapter = None if plain else adapter

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "required": self.required,
            "expected": self.expected,
            "types": self.types,
        }

    def read(self, value: Any) -> Any:
        """Converts a JSON value to the field's type; raises HostError if it does not fit."""
        try:
            try:
                # Not as a Python value: strict types accept their JSON form in JSON alone.
                return self.adapter.validate_json(to_json(value))
            except NotImplementedError:  # the type has no JSON form
                return self.adapter.validate_python(value)
        except Exception as error:
            path, problem = _problem(error)
            place = ".".join(map(str, (self.name, *path)))
            message = f"the input `{place}` does not fit: {problem}"
            raise HostError("invalid_input", message, self.name, self.expected) from None


class Output:
    """One output field: its JSON types, and the check of its value in a partial answer."""

    def __init__(self, annotation: Any) -> None:
        self.is_text = is_text(annotation)
        self._expected = _type_name(annotation)
        self._adapter = _adapter(annotation)
        self.types = self._adapter and json_types.of_output(self._adapter.core_schema)

    def misfit(self, value: Any, data: Any) -> str | None:
        """The error of a value, which is `data` as JSON; None if either fits the type."""
        if self._adapter is None:
            return None
        try:
            self._adapter.validate_python(value)
            return None
        except Exception as error:
            path, problem = _problem(error)
        with contextlib.suppress(Exception):
            # Values of numpy fit as JSON alone.
            self._adapter.validate_json(to_json(data))
            return None
        place = "".join(f" at `{part}`" for part in path)
        return f"{problem}{place}; it is to be of the type {self._expected}"


class Schema:
    """The input fields of a program and, if its signature names them, its output fields."""

    def __init__(self, inputs: list[Field], outputs: dict[str, Output] | None) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._converted = [field for field in inputs if field.adapter is not None]

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {"inputs": [field.describe() for field in self.inputs]}
        if self.outputs is not None:
            described["outputs"] = list(self.outputs)
            described["output_types"] = [field.types for field in self.outputs.values()]
        return described

    def convert(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Converts the inputs to their fields' types."""
        for field in self._converted:
            if field.name in inputs:
                inputs[field.name] = field.read(inputs[field.name])
        return inputs


def _problem(error: Exception) -> tuple[tuple[Any, ...], str]:
    """The path and the message of the first error in a value."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return first["loc"], first["msg"]
    # Raised by a validator or an `__init__`.
    return (), f"{type(error).__name__}: {error}"


def of_program(program: dspy.Module, forward: Any, target: str) -> Schema:
    """The schema of a module: the parameters of `forward`, or its signature's fields."""
    schema = _of_parameters(forward, target)
    if schema is not None:
        return schema
    signature = getattr(program, "signature", None)
    if not (isinstance(signature, type) and issubclass(signature, dspy.Signature)):
        predictors = program.predictors()
        if len(predictors) != 1:
            raise HostError(
                "schema",
                f"`{target}` takes `**kwargs` and has {len(predictors)} predictors, so its input "
                f"fields are not known; give its `{forward.__name__}` named parameters",
            )
        signature = predictors[0].signature
    return of_signature(signature)


def of_function(function: Any, target: str) -> Schema:
    """The schema of an async function: its parameters."""
    schema = _of_parameters(function, target)
    if schema is None:
        raise HostError("schema", f"`{target}` takes `**kwargs`; give it named parameters")
    return schema


def of_signature(signature: Any) -> Schema:
    """The schema of a DSPy signature."""
    if not signature.output_fields:
        raise HostError("schema", "the program's signature has no output field, so nothing to ask")
    inputs = []
    for name, info in signature.input_fields.items():
        _refuse_privileged(name, "the program's signature")
        inputs.append(Field(name, info.annotation, info.default is PydanticUndefined))
    fields = signature.output_fields.items()
    return Schema(inputs, {name: Output(info.annotation) for name, info in fields})


def _of_parameters(function: Any, target: str) -> Schema | None:
    """The schema of a function; None if it takes any keywords."""
    parameters = _signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    known = _globals(function)
    fields = []
    for parameter in parameters:
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.name in PRIVILEGED and not required:
            continue  # not an input; it keeps its default
        _refuse_privileged(parameter.name, f"`{target}`")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise HostError(
                "schema", f"`{target}` takes `{parameter.name}` by position only; drop the `/`"
            )
        fields.append(Field(parameter.name, _resolve(parameter, known, target), required))
    return Schema(fields, None)


def _signature(function: Any) -> inspect.Signature:
    """The signature with unevaluated annotations."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _globals(function: Any) -> dict[str, Any]:
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    return getattr(function, "__globals__", {})


def _resolve(parameter: inspect.Parameter, known: dict[str, Any], target: str) -> Any:
    """The type that a parameter's annotation names; `Any` if it cannot be resolved.

    A name that is imported for type checkers alone does not exist while the program runs.
    """
    name, annotation = parameter.name, parameter.annotation
    if annotation is parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        return typing.get_type_hints(holder, known, include_extras=True)[name]
    except Exception as error:
        message = "the annotation of `%s` in `%s` is not known, so it takes any JSON value: %s"
        _log.warning(message, name, target, error)
        return Any


def _refuse_privileged(name: str, where: str) -> None:
    if name in PRIVILEGED:
        raise HostError(
            "schema",
            f"{where} has an input field `{name}`, a name that DSPy takes for its own settings; "
            "rename the field",
        )


def _type_name(annotation: Any) -> str:
    if annotation is Any:
        return "any JSON value"
    if annotation is str:
        return "str"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """The validator of a type; None if pydantic does not know the type."""
    try:
        adapter = TypeAdapter(annotation)
        # Resolves names that were not defined when a model was made, or fails.
        adapter.rebuild(raise_errors=True)
    except Exception:
        return None
    return adapter
