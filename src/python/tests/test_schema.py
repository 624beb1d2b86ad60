from __future__ import annotations

import datetime
import enum
from typing import Any, Literal

import dspy
import pytest

import inputs
import shapes
from tower_dspy import schema
from tower_dspy.faults import HostError
from tower_dspy.schema import Field


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("annotation", "types", "expected"),
    [
        (str, ["string", "string_array"], "str"),
        (int, ["integer"], "int"),
        (float, ["number"], "float"),
        (bool, ["boolean"], "bool"),
        (Any, None, "any JSON value"),
        (list[str], ["array"], "list[str]"),
        (dict, ["object"], "dict"),
        (str | None, ["null", "string"], "str | None"),
        (int | list[int], ["array", "integer"], "int | list[int]"),
        (Literal["a", "b"], ["string"], "typing.Literal['a', 'b']"),
        (Literal["a", 1], None, "typing.Literal['a', 1]"),
        (Colour, ["string"], "Colour"),
        (datetime.date, ["string"], "date"),
        (inputs.Person, ["object"], "Person"),
        (dspy.History, ["object"], "History"),
        (dspy.Image, ["object"], "Image"),
    ],
)
def test_the_json_types_of_an_annotation(annotation, types, expected):
    field = Field("x", annotation, True)
    assert (field.types, field.expected) == (types, expected)


def test_plain_types_cost_no_conversion():
    plain = [Field("x", annotation, True).adapter for annotation in (str, int, float, bool, Any)]
    assert plain == [None] * 5


def converted(annotation, value):
    return schema.Schema([Field("x", annotation, True)], None).convert({"x": value})["x"]


def test_rich_values_become_their_types():
    assert converted(datetime.date, "2024-02-29") == datetime.date(2024, 2, 29)
    assert converted(Colour, "red") is Colour.RED
    person = converted(
        inputs.Person, {"name": "Ada", "home": {"street": "High Street", "number": 1}}
    )
    assert person.home.number == 1


@pytest.mark.parametrize(
    ("annotation", "value", "place"),
    [
        (Literal["a"], "b", "`x`"),
        (list[int], [1, "two"], "`x.1`"),
        (inputs.Person, {"name": "Ada", "home": {"street": "s", "number": "n"}}, "`x.home.number`"),
        (dspy.Image, {"url": "/etc/passwd"}, "`x`"),
        (dspy.History, {"messages": [1]}, "`x.messages.0`"),
    ],
)
def test_a_misfit_is_named_by_its_place(annotation, value, place):
    with pytest.raises(HostError) as caught:
        converted(annotation, value)
    assert (caught.value.kind, caught.value.field) == ("invalid_input", "x")
    assert place in str(caught.value)


def test_a_signature_tells_inputs_and_outputs():
    told = schema.of_signature(dspy.Signature("question, k: int -> answer, score: float"))
    assert [field.name for field in told.inputs] == ["question", "k"]
    assert list(told.outputs) == ["answer", "score"]
    assert told.describe()["output_types"] == [["string"], ["number"]]
    told = schema.of_signature(
        dspy.Signature("question -> ok: Optional[bool], tags: list[str], more: dict")
    )
    assert told.describe()["output_types"] == [["boolean", "null"], ["array"], ["object"]]


def test_a_module_tells_its_parameters_or_its_predictors_fields():
    def of(program):
        return schema.of_program(program, program.aforward, "p")

    named = of(inputs.Defaults())
    assert [(field.name, field.required) for field in named.inputs] == [
        ("question", True),
        ("style", False),
    ]
    hidden = of(shapes.OneWay())
    assert [field.name for field in hidden.inputs] == ["question"]
    thought = of(dspy.ChainOfThought("question -> answer"))
    assert list(thought.outputs) == ["reasoning", "answer"]
    react = of(dspy.ReAct("question -> answer", tools=[]))
    assert [field.name for field in react.inputs] == ["question"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (shapes.privileged, "`config`"),
        (shapes.positional, "by position only"),
        (shapes.unknown_annotation, "not known"),
    ],
)
def test_a_function_with_fields_that_cannot_be_given_is_refused(function, said):
    with pytest.raises(HostError, match=said):
        schema.of_function(function, "f")


# DSPy itself has no field called `signature`.
@pytest.mark.parametrize("name", sorted(schema.PRIVILEGED - {"signature"}))
def test_a_signature_with_a_reserved_input_is_refused(name):
    with pytest.raises(HostError, match=name):
        schema.of_signature(dspy.Signature(f"question, {name} -> answer"))


def test_a_signature_without_outputs_is_refused():
    with pytest.raises(HostError, match="no output field"):
        schema.of_signature(dspy.Signature("question ->"))
