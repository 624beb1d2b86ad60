from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import re
import uuid
from typing import Annotated, Any, Literal

import dspy
import pydantic
import pytest
from dspy.adapters.types.document import Document

import inputs
import shapes
from tower_dspy import schema
from tower_dspy.faults import HostError
from tower_dspy.schema import Field, Output


class Colour(enum.Enum):
    RED = "red"


class AnyCase(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value):
        return cls(value["colour"]) if isinstance(value, dict) else None


class Split(pydantic.BaseModel):
    """Takes a text as well."""

    words: list[str]

    @pydantic.model_validator(mode="before")
    @classmethod
    def split(cls, value):
        return {"words": value.split()} if isinstance(value, str) else value


Java = dspy.Code["java"]
Rounded = Annotated[int, pydantic.BeforeValidator(float), pydantic.BeforeValidator(round)]
Described = Annotated[int, {"unit": "cm"}]
Wrapped = Annotated[int, pydantic.WrapValidator(lambda value, inner: inner(len(value)))]
Length = Annotated[int, pydantic.PlainValidator(len)]


class Opaque:
    pass


@dataclasses.dataclass
class Size:
    width: int


class Strict(pydantic.BaseModel, strict=True):
    day: datetime.datetime
    colour: Colour
    key: uuid.UUID
    size: Size
    pair: tuple[int, str]
    names: set[str]
    raw: bytes


STRICT = {
    "day": "2024-02-29T12:00:00",
    "colour": "red",
    "key": "5bd7f0ac-5c1b-4c0e-8a4e-1a2b3c4d5e6f",
    "size": {"width": 2},
    "pair": [1, "x"],
    "names": ["a", "a"],
    "raw": "bytes",
}


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
        (Split, None, "Split"),
        (Split | None, None, "test_schema.Split | None"),
        (list[Split], ["array"], "list[test_schema.Split]"),
        (dspy.Code, None, "Code"),
        (Document, None, "Document"),
        (dspy.Reasoning, None, "Reasoning"),
        (dspy.Audio, None, "Audio"),
        (dspy.File, None, "File"),
        (AnyCase, None, "AnyCase"),
        (datetime.timedelta, ["number", "string"], "timedelta"),
        (pydantic.RootModel[list[int]], ["array"], "RootModel[list[int]]"),
        (Size, ["object"], "Size"),
        (Opaque, None, "any JSON value"),
        (list["Missing"], None, "any JSON value"),  # noqa: F821
        (["no type"], None, "any JSON value"),
    ],
)
def test_the_json_types_of_an_annotation(annotation, types, expected):
    field = Field("x", annotation, True)
    assert (field.types, field.expected) == (types, expected)


def test_metadata_that_cannot_be_hashed_changes_nothing():
    assert Field("x", Described, True).types == ["integer"]


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


@pytest.mark.parametrize("annotation", [Rounded, Wrapped, Length])
def test_a_validator_that_runs_first_may_take_any_json_value(annotation):
    assert Field("x", annotation, True).types is None


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Split, "a b", Split(words=["a", "b"])),
        (AnyCase, {"colour": "red"}, AnyCase.RED),
        (Java, "x = 1", Java(code="x = 1")),
        (list[dspy.Code], ["x"], [dspy.Code(code="x")]),
        (Document, "text", Document(data="text")),
        (dspy.Reasoning, "so", dspy.Reasoning(content="so")),
        (dspy.File, "data:text/plain;base64,eA==", dspy.File("data:text/plain;base64,eA==")),
        (dspy.Audio, "data:audio/wav;base64,eA==", dspy.Audio("data:audio/wav;base64,eA==")),
        (Rounded, 2.6, 3),
        (Opaque, {"any": 1}, {"any": 1}),
    ],
)
def test_a_value_becomes_what_its_validators_make_of_it(annotation, value, expected):
    assert converted(annotation, value) == expected


def test_a_strict_model_takes_the_json_form_of_its_types():
    strict = converted(Strict, STRICT)
    assert strict == Strict.model_validate_json(Strict(**vars(strict)).model_dump_json())
    assert (strict.colour, strict.size, strict.pair) == (Colour.RED, Size(2), (1, "x"))
    assert (strict.names, strict.raw, strict.day.hour) == ({"a"}, b"bytes", 12)
    with pytest.raises(HostError, match=r"`x\.size\.width`"):
        converted(Strict, {**STRICT, "size": {"width": "2"}})


def test_a_strict_field_takes_json_and_no_more_than_its_type():
    strict_day = Annotated[datetime.date, pydantic.Strict()]
    assert converted(strict_day, "2024-02-29") == datetime.date(2024, 2, 29)
    with pytest.raises(HostError):
        converted(Annotated[int, pydantic.Strict()], "3")


@pytest.mark.parametrize(
    ("annotation", "value", "place"),
    [
        (dspy.File, "/etc/passwd", "`x`"),
        (dspy.Audio, "/etc/passwd", "`x`"),
        (dspy.Image, "/etc/passwd", "`x`"),
        (dspy.Image, {"url": "https://example.com/a.png", "download": True}, "`x`.*TypeError"),
        (dspy.Code, {"text": "x"}, "`x`"),
        (Document, 5, "`x`"),
        (Rounded, "three", "`x`"),
        (Length, 5, "`x`"),
        (Literal["a"], "b", "`x`"),
        (list[int], [1, "two"], "`x.1`"),
        (inputs.Person, {"name": "Ada", "home": {"street": "s", "number": "n"}}, "`x.home.number`"),
        (dspy.Image, {"url": "/etc/passwd"}, "`x`"),
        (dspy.History, {"messages": [1]}, "`x.messages.0`"),
    ],
)
def test_the_error_of_an_input_names_its_path(annotation, value, place):
    with pytest.raises(HostError) as caught:
        converted(annotation, value)
    assert (caught.value.kind, caught.value.field) == ("invalid_input", "x")
    assert re.search(place, str(caught.value))


def test_the_schema_of_a_signature_has_inputs_and_outputs():
    told = schema.of_signature(dspy.Signature("question, k: int -> answer, score: float"))
    assert [field.name for field in told.inputs] == ["question", "k"]
    assert list(told.outputs) == ["answer", "score"]
    assert told.describe()["output_types"] == [["string"], ["number"]]
    told = schema.of_signature(
        dspy.Signature("question -> ok: Optional[bool], tags: list[str], more: dict")
    )
    assert told.describe()["output_types"] == [["boolean", "null"], ["array"], ["object"]]


def test_the_schema_of_a_module_has_its_parameters_or_its_predictors_fields():
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
    ("annotation", "types"),
    [
        (str, ["string"]),
        (dspy.Image, ["object"]),
        (dspy.Image | None, ["null", "object"]),
        (dspy.Audio, ["object"]),
        (dspy.File, ["object"]),
        (Document, ["object"]),
        (list[dspy.Image], ["array"]),
        (dspy.Code, ["string"]),
        (Java, ["string"]),
        (dspy.Reasoning, ["string"]),
        (Split, ["object"]),
        (Rounded, ["integer"]),
        (datetime.timedelta, ["string"]),
        (Opaque, None),
    ],
)
def test_the_json_types_of_an_output(annotation, types):
    assert Output(annotation).types == types


async def typed(
    self,
    later: LaterOn,
    missing: Missing,  # noqa: F821
    nested: list[Missing],  # noqa: F821
    note: "not a type",  # noqa: F722
    limit: int = 3,
) -> Missing:  # noqa: F821
    pass


LaterOn = list[str]


def test_each_annotation_is_resolved_by_itself_and_an_unresolved_one_takes_any_value(caplog):
    fields = schema.of_function(functools.partial(typed, None), "m:typed").inputs
    assert [(field.name, field.types, field.required) for field in fields] == [
        ("later", ["array"], True),
        ("missing", None, True),
        ("nested", None, True),
        ("note", None, True),
        ("limit", ["integer"], False),
    ]
    assert "`missing` in `m:typed`" in caplog.text
    assert "later" not in caplog.text


def test_the_annotations_of_a_wrapped_method_are_those_of_the_wrapped():
    def logged(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            return await function(*args, **kwargs)

        return wrapper

    class Program(dspy.Module):
        @logged
        async def aforward(self, size: Size, other: Missing) -> Missing:  # noqa: F821
            pass

    program = Program()
    told = schema.of_program(program, Program.aforward.__get__(program), "m:Program")
    assert [field.types for field in told.inputs] == [["object"], None]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (shapes.privileged, "`config`"),
        (shapes.positional, "by position only"),
    ],
)
def test_a_function_with_fields_that_cannot_be_passed_is_refused(function, said):
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
