import math
from typing import Any

import dspy
import pydantic
import pytest
from dspy.adapters.types.document import Document

from tower_dspy import program
from tower_dspy.faults import HostError
from tower_dspy.jsonable import to_json_data

URL = "https://example.com/cat.png"


class Page(pydantic.BaseModel):
    picture: dspy.Image
    more: list[Any]


class Badge(dspy.Type):
    """A program's own type, which shows itself to an LM as a text."""

    name: str
    inner: dspy.Image | None = None

    def format(self) -> str:
        return f"[{self.name}]"


class Number:
    """A scalar as numpy has them."""

    dtype = "int64"

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        return self._value


class Array(Number):
    def tolist(self) -> Any:
        return self._value

    def item(self) -> Any:
        raise ValueError("an array has many")


def picture() -> dspy.Image:
    return dspy.Image(url=URL)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (picture(), {"url": URL}),
        (dspy.Audio(data="eA==", audio_format="wav"), {"data": "eA==", "audio_format": "wav"}),
        (dspy.File(file_id="f"), {"file_data": None, "file_id": "f", "filename": None}),
        (
            Document(data="text", title="T"),
            {"data": "text", "title": "T", "media_type": "text/plain", "context": None},
        ),
        (Badge(name="a", inner=picture()), {"name": "a", "inner": {"url": URL}}),
        # Texts in DSPy's own dump as well.
        (dspy.Code(code="x = 1"), "x = 1"),
        (dspy.Reasoning(content="so"), "so"),
    ],
)
def test_types_of_dspy_become_objects_with_their_fields_wherever_they_are(value, data):
    model = Page(picture=picture(), more=[value, {"k": value}])
    page = {"picture": {"url": URL}, "more": [data, {"k": data}]}
    nested = dspy.Prediction(inner=value)
    answer = {"one": value, "many": [value, (value,)], "page": model, "nested": [nested]}
    expected = {"one": data, "many": [data, [data]], "page": page, "nested": [{"inner": data}]}
    assert to_json_data(answer) == expected
    assert to_json_data(dspy.Prediction(**answer)) == expected


def test_prompts_show_types_of_dspy_as_before():
    to_json_data({"one": picture()})
    assert picture().model_dump().startswith("<<CUSTOM-TYPE-START-IDENTIFIER>>")
    assert URL in picture().model_dump()
    assert Badge(name="a").model_dump() == "[a]"


def test_values_of_numpy_become_plain_ones():
    answer = {
        "n": Number(3),
        "many": [Number(1.5), Array([[1, 2], [3, 4]])],
        "model": Page(picture=picture(), more=[Number(True)]),
        "of objects": Array([picture()]),
    }
    expected = {
        "n": 3,
        "many": [1.5, [[1, 2], [3, 4]]],
        "model": {"picture": {"url": URL}, "more": [True]},
        "of objects": [{"url": URL}],
    }
    assert to_json_data(answer) == expected
    assert to_json_data(dspy.Prediction(**answer)) == expected


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "nan, at `answer`"),
        ([1.0, {"mean": -math.inf}], "-inf, at `answer.1.mean`"),
        (Array([0.5, math.inf]), "inf, at `answer.1`"),
        (Page(picture=picture(), more=[math.nan]), "nan, at `answer.more.0`"),
    ],
)
def test_the_error_of_a_nonfinite_number_names_its_path(value, place):
    for answer in ({"answer": value}, dspy.Prediction(first=1, answer=value)):
        with pytest.raises(ValueError, match=f"no number for {place}; use None instead"):
            to_json_data(answer)


def test_a_value_that_is_no_data_is_named_by_its_field():
    with pytest.raises(ValueError, match="`answer`: JSON has no value for a object; use a dict"):
        to_json_data({"first": 1, "answer": [object()]})


def test_a_value_that_holds_itself_is_refused():
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(RecursionError):
        to_json_data({"answer": itself})


def test_an_answer_that_is_not_json_is_a_failure_of_the_output():
    with pytest.raises(HostError, match=r"answer is not JSON.*at `answer`") as raised:
        program._outputs(dspy.Prediction(answer=math.nan))
    assert raised.value.kind == "output"
