"""The fields of a program, read once at load, and the inputs brought into their types."""

from __future__ import annotations

import inspect
from typing import Any

import dspy
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from tower_dspy.faults import HostError

# As inputs they would replace the program's own settings, its LM's address included.
PRIVILEGED = frozenset({"config", "signature", "demos", "lm"})

_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


class Field:
    """One input field: its name, what Rust checks of it, and how its value is made."""

    def __init__(self, name: str, annotation: Any, required: bool) -> None:
        self.name = name
        self.required = required
        self.expected = _type_name(annotation)
        self.types = _json_types(annotation)
        # Plain JSON types need no conversion once Rust has checked them.
        plain = annotation is Any or annotation in _JSON_TYPES
        self.adapter = None if plain else TypeAdapter(annotation)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "required": self.required,
            "expected": self.expected,
            "types": self.types,
        }


class Output:
    """One output field: the JSON types that it may have, and what fits it in a partial answer."""

    def __init__(self, annotation: Any) -> None:
        self.types = ["string"] if annotation is str else _json_types(annotation)
        self._expected = _type_name(annotation)
        try:
            self._adapter = TypeAdapter(annotation)
        except Exception:
            self._adapter = None  # pydantic does not know the type: any value may fit

    def misfit(self, value: Any) -> str | None:
        """What is wrong with a value; None if it fits."""
        if self._adapter is None:
            return None
        try:
            self._adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = "".join(f" at `{part}`" for part in first["loc"])
            return f"{first['msg']}{place}; it is to be of the type {self._expected}"
        return None


class Schema:
    """What a program takes and, where its signature says so, what it gives."""

    def __init__(self, inputs: list[Field], outputs: dict[str, Output] | None) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._rich = [field for field in inputs if field.adapter is not None]

    def describe(self) -> dict[str, Any]:
        told: dict[str, Any] = {"inputs": [field.describe() for field in self.inputs]}
        if self.outputs is not None:
            told["outputs"] = list(self.outputs)
            told["output_types"] = [field.types for field in self.outputs.values()]
        return told

    def convert(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs with each rich field as its own type; refuses what does not fit."""
        for field in self._rich:
            if field.name in inputs:
                try:
                    inputs[field.name] = field.adapter.validate_python(inputs[field.name])
                except ValidationError as error:
                    first = error.errors(include_url=False, include_input=False)[0]
                    place = ".".join(str(part) for part in (field.name, *first["loc"]))
                    raise HostError(
                        "invalid_input",
                        f"the input `{place}` does not fit: {first['msg']}",
                        field.name,
                        field.expected,
                    ) from None
        return inputs


def of_program(program: dspy.Module, forward: Any, target: str) -> Schema:
    """The schema of a module: the parameters of `forward`, or its signature's fields."""
    parameters = _named_parameters(forward, target)
    if parameters is not None:
        return Schema(_from_parameters(parameters, target), None)
    signature = getattr(program, "signature", None)
    if not _is_signature(signature):
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
    parameters = _named_parameters(function, target)
    if parameters is None:
        raise HostError("schema", f"`{target}` takes `**kwargs`; give it named parameters")
    return Schema(_from_parameters(parameters, target), None)


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


def _named_parameters(function: Any, target: str) -> list[inspect.Parameter] | None:
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise HostError("schema", f"an annotation of `{target}` is not known: {error}") from error
    parameters = list(signature.parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]


def _from_parameters(parameters: list[inspect.Parameter], target: str) -> list[Field]:
    fields = []
    for parameter in parameters:
        required = parameter.default is parameter.empty
        if parameter.name in PRIVILEGED and not required:
            continue  # never from outside; the program's own default stays
        _refuse_privileged(parameter.name, f"`{target}`")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise HostError(
                "schema", f"`{target}` takes `{parameter.name}` by position only; drop the `/`"
            )
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields.append(Field(parameter.name, annotation, required))
    return fields


def _refuse_privileged(name: str, where: str) -> None:
    if name in PRIVILEGED:
        raise HostError(
            "schema",
            f"{where} has an input field `{name}`, a name that DSPy takes for its own settings; "
            "rename the field",
        )


def _is_signature(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, dspy.Signature)


def _type_name(annotation: Any) -> str:
    if annotation is Any:
        return "any JSON value"
    if annotation is str:
        return "str"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _json_types(annotation: Any) -> list[str] | None:
    """The JSON types that a value of `annotation` may have; None where any may do."""
    if annotation is Any:
        return None
    if annotation is str:
        # DSPy lets a list of passages stand for a text, as in "context, question -> answer".
        return ["string", "string_array"]
    if annotation in _JSON_TYPES:
        return [_JSON_TYPES[annotation]]
    try:
        schema = TypeAdapter(annotation).json_schema()
    except Exception:
        return None  # pydantic itself judges the value, before the program starts
    return _types_of(schema, schema.get("$defs", {}))


def _types_of(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str] | None:
    if "$ref" in schema:
        return _types_of(definitions.get(schema["$ref"].rsplit("/", 1)[-1], {}), definitions)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            parts = [_types_of(part, definitions) for part in schema[union]]
            if any(part is None for part in parts):
                return None
            return sorted({name for part in parts for name in part})
    kind = schema.get("type")
    if isinstance(kind, str):
        return [kind]
    return kind if isinstance(kind, list) else None
