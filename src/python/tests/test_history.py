"""What a call sees of its history, and what is left of it."""

import io
import sys
from types import SimpleNamespace

import dspy
import pytest
from conftest import in_call
from dspy.clients.typesafe import TypeSafe
from fakes import FakeCall, FakeExchangeHost, FakeLmHost

from tower_dspy import host_lms
from tower_dspy.call_state import CURRENT_CALL
from tower_dspy.patches import history

pytestmark = pytest.mark.usefixtures("http")


@pytest.fixture
def lm() -> dspy.LM:
    return dspy.LM("openai/own", api_key="k", api_base="http://own/v1", cache=False)


@pytest.fixture
def qa() -> dspy.Predict:
    return dspy.Predict("question -> answer")


@pytest.fixture
def taken(call: FakeCall, lm: dspy.LM, qa: dspy.Predict) -> dspy.LM:
    """The LM that replaces the program's in a host."""

    taken = host_lms.take_over(FakeLmHost(), lm, [], "it")
    CURRENT_CALL.get().replaced_lms = host_lms.replaced_lms(qa, taken)
    return taken


def test_a_call_sees_its_own_history_alone(lm: dspy.LM, qa: dspy.Predict):
    for question in ("first", "second"):
        with in_call(FakeCall()):
            with dspy.context(lm=lm):
                qa(question=question)
            assert len(lm.history) == len(qa.history) == 1
            assert question in str(lm.history[-1]["messages"])
            assert lm.history[-1]["usage"]["total_tokens"] == 8
            shown = io.StringIO()
            dspy.inspect_history(file=shown)
            assert question in shown.getvalue()
    assert lm.history == qa.history == []


def test_the_history_is_bounded_and_can_be_disabled(
    http: FakeExchangeHost, call: FakeCall, lm: dspy.LM, qa: dspy.Predict, monkeypatch
):
    monkeypatch.setattr(history, "_MOST", 3)
    with dspy.context(lm=lm):
        with dspy.context(disable_history=True):
            qa(question="unseen")
        assert lm.history == []
        for n in range(5):
            qa(question=f"question {n}")
    assert len(lm.history) == 3
    assert "question 4" in str(lm.history[-1]["messages"])
    with dspy.context(lm=lm, max_history_size=1):
        qa(question="last")
    assert len(lm.history) == 1


def test_a_module_may_have_a_history_of_its_own(call: FakeCall, lm: dspy.LM):
    class Chat(dspy.Module):
        def __init__(self):
            super().__init__()
            self.history = dspy.History(messages=[{"question": "a", "answer": "b"}])

    chat = Chat()
    assert chat.history.messages[0]["question"] == "a"
    chat.history = ["mine"]
    assert chat.history == ["mine"]


def test_a_copy_begins_with_an_empty_history(call: FakeCall, lm: dspy.LM, qa: dspy.Predict):
    with dspy.context(lm=lm):
        qa(question="?")
    assert len(lm.history) == 1
    assert lm.copy().history == []
    assert qa.deepcopy().history == []


def test_a_copy_of_an_lm_does_not_have_a_history_that_the_program_set(call: FakeCall, lm: dspy.LM):
    lm.history = [{"prompt": "kept"}]
    assert lm.copy().history == []
    assert lm.history == [{"prompt": "kept"}]


def test_a_typesafe_client_has_a_history_as_well(call: FakeCall, monkeypatch):
    class Client:
        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def system_one(self, **_):
            usage = SimpleNamespace(input_tokens=1, output_tokens=1)
            return SimpleNamespace(model="m", usage=usage, answers={})

    monkeypatch.setitem(sys.modules, "typesafe_sdk", SimpleNamespace(TypeSafeClient=Client))
    asked = TypeSafe("m")
    asked({}, {})
    assert [entry["usage"]["prompt_tokens"] for entry in asked.history] == [1]
    assert asked.copy().history == []


def test_an_emptied_history_begins_anew_and_leaves_the_list_that_was_read_before(
    call: FakeCall, lm: dspy.LM, qa: dspy.Predict
):
    qa.history = ["mine"]
    with dspy.context(lm=lm):
        qa(question="?")
        qa.history = []
        assert qa.history == []
        qa(question="?")
    asked = qa.history
    qa.history = []
    assert (len(asked), qa.history) == (1, [])


def test_a_program_may_go_on_with_the_list_that_it_gave(call: FakeCall, qa: dspy.Predict):
    qa.history = given = []
    given.append("mine")
    assert qa.history == ["mine"]


def test_emptying_the_history_of_a_replaced_lm_empties_that_of_its_replacement(
    taken: dspy.LM, lm: dspy.LM, qa: dspy.Predict
):
    with dspy.context(lm=taken):
        qa(question="?")
    lm.history = []
    assert lm.history == []


def test_a_replaced_lm_shows_the_history_of_its_replacement(
    taken: dspy.LM, lm: dspy.LM, qa: dspy.Predict
):
    with dspy.context(lm=taken):
        qa(question="?")
    assert len(lm.history) == len(taken.history) == 1
    assert lm.copy().history == taken.copy().history == []
    assert len(lm.history) == 1
