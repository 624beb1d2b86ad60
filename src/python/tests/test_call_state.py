import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import dspy
import pydantic
import pytest
from conftest import in_call
from fakes import FakeCall

import tower_dspy
from tower_dspy.call_state import CURRENT_CALL, CallState
from tower_dspy.schema import Output

pytestmark = pytest.mark.asyncio


async def test_outside_a_call_there_is_no_limit():
    assert tower_dspy.deadline() is None
    assert tower_dspy.remaining() is None
    assert tower_dspy.cancelled() is False
    assert tower_dspy.partial(answer="goes nowhere", extra=object()) is False


async def test_a_call_knows_its_limit_in_threads_and_tasks_too():
    async def inner() -> float:
        return tower_dspy.remaining()

    with in_call(remaining=100.0):
        assert 50 < tower_dspy.deadline() - time.monotonic() <= 100
        assert 50 < tower_dspy.remaining() <= 100
        assert 50 < await asyncio.to_thread(tower_dspy.remaining) <= 100
        assert 50 < await asyncio.create_task(inner()) <= 100


@pytest.fixture
def call():
    """A call of a program that answers with these fields."""
    call = FakeCall()
    with in_call(call) as state:
        state.outputs = {"answer": Output(Any), "title": Output(str), "scores": Output(list[float])}
        yield call


class Point(pydantic.BaseModel):
    x: int


async def test_a_partial_answer_is_plain_data_at_once(call):
    point = Point(x=1)
    assert tower_dspy.partial(answer=[point]) is True
    point.x = 2
    assert call.named("partial") == [{"answer": [{"x": 1}]}]


async def test_a_partial_answer_of_other_fields_or_of_no_json_is_refused(call):
    with pytest.raises(ValueError, match=r"no output field.*'reply'.*'answer'"):
        tower_dspy.partial(reply="?")
    with pytest.raises(ValueError, match="not JSON"):
        tower_dspy.partial(answer=object())
    assert call.events == []


async def test_a_partial_answer_of_other_types_than_the_signatures_is_refused(call):
    with pytest.raises(ValueError, match=r"`title` does not fit: .*string; .* type str$"):
        tower_dspy.partial(answer="so", title=3)
    with pytest.raises(ValueError, match=r"`scores` does not fit: .* at `1`; .* list\[float\]$"):
        tower_dspy.partial(scores=[1, "high"])
    assert call.events == []
    assert tower_dspy.partial(title="T", scores=[1, 0.5]) is True
    assert call.named("partial") == [{"title": "T", "scores": [1, 0.5]}]


async def test_a_partial_answer_has_types_of_dspy_and_numbers_of_numpy_as_plain_data(call):
    class Scores:
        dtype = "float64"

        def tolist(self) -> list[float]:
            return [0.5, 1.0]

    CURRENT_CALL.get().outputs["picture"] = Output(dspy.Image)
    picture = dspy.Image(url="https://example.com/cat.png")
    assert tower_dspy.partial(answer=[picture], picture=picture, scores=Scores()) is True
    as_data = {"url": "https://example.com/cat.png"}
    (partial,) = call.named("partial")
    assert partial == {"answer": [as_data], "picture": as_data, "scores": [0.5, 1.0]}


async def test_the_error_of_a_nonfinite_number_names_its_path(call):
    with pytest.raises(ValueError, match=r"nan, at `scores\.1`"):
        tower_dspy.partial(scores=[1.0, float("nan")])
    assert call.events == []


async def test_a_validator_that_fails_on_a_partial_answer_names_the_field(call):
    CURRENT_CALL.get().outputs["length"] = Output(Annotated[int, pydantic.PlainValidator(len)])
    with pytest.raises(ValueError, match=r"`length` does not fit: TypeError"):
        tower_dspy.partial(length=5)


async def test_a_type_that_pydantic_does_not_know_takes_any_value(call):
    class Opaque:
        pass

    CURRENT_CALL.get().outputs["opaque"] = Output(Opaque)
    assert tower_dspy.partial(opaque="anything") is True


async def test_a_partial_answer_of_a_call_that_is_over_is_dropped(call):
    call.cancelled_by_host = True
    assert tower_dspy.partial(answer="late") is False
    assert tower_dspy.cancelled() is True


async def test_a_thread_that_keeps_dspys_settings_alone_is_part_of_the_call(call):
    state = CURRENT_CALL.get()

    def ask() -> bool:
        assert CURRENT_CALL.get() is None
        with dspy.context(tower_dspy_call=state):
            return tower_dspy.partial(answer="from a thread")

    with ThreadPoolExecutor() as threads:
        assert threads.submit(ask).result() is True
    assert call.named("partial") == [{"answer": "from a thread"}]


async def test_remaining_is_never_below_zero():
    with in_call(remaining=-5.0) as state:
        assert tower_dspy.remaining() == 0.0
        state.cancelled = True
        assert tower_dspy.cancelled() is True


async def test_a_task_that_starts_after_the_call_is_cancelled_at_once():
    state = CallState(1, None, None)
    state.closed = True
    ran = []

    async def late() -> None:
        ran.append(True)

    task = asyncio.Task(late(), loop=asyncio.get_running_loop())
    state.add_child(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert (ran, state.children) == ([], set())
