from __future__ import annotations

import asyncio

import dspy
import pytest
from conftest import FakeCall
from dspy.utils import DummyLM

from tower_dspy import lm, steps
from tower_dspy.scope import SCOPE, Cancelled, Scope

pytestmark = pytest.mark.asyncio

ANSWER = [{"answer": "yes"}]


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    for name in ("__call__", "acall"):
        monkeypatch.setattr(dspy.BaseLM, name, getattr(dspy.BaseLM, name))
    steps.watch()
    steps.watch()


@pytest.fixture
def call():
    call = FakeCall()
    token = SCOPE.set(Scope(1, call, None))
    yield call
    SCOPE.reset(token)


async def ask():
    with dspy.context(lm=DummyLM(ANSWER * 9)):
        return await dspy.Predict("question -> answer").acall(question="?")


def ask_sync():
    with dspy.context(lm=DummyLM(ANSWER * 9)):
        return dspy.Predict("question -> answer")(question="?")


async def test_outside_a_call_nothing_is_told():
    assert (await ask()).answer == "yes"
    assert ask_sync().answer == "yes"


async def test_an_lm_of_the_programs_own_is_told_before_and_its_answer_after(call):
    assert (await ask()).answer == "yes"
    assert ask_sync().answer == "yes"
    names = [name for name, _ in call.events]
    assert names == ["bypassed", "stepped", "bypassed", "stepped"]
    assert all(lm == "DummyLM(dummy)" for lm in call.named("bypassed"))


async def test_an_lm_of_the_hosts_is_a_step_and_no_more(call):
    class Fails:
        def open(self, *_):
            raise OSError("no port")

    ours = lm.build(Fails(), {"id": 0, "model": "openai/m", "base_url": None})
    with pytest.raises(dspy.utils.exceptions.LMError):
        await ours.acall("?")
    with pytest.raises(dspy.utils.exceptions.LMError):
        ours("?")
    # It got no answer.
    assert call.events == []


async def test_in_a_call_that_is_over_an_lm_of_the_programs_own_is_not_asked(call):
    call.given_up = True
    with pytest.raises(Cancelled):
        ask_sync()
    with pytest.raises(asyncio.CancelledError):
        await ask()
    # Who swallows that, is parked.
    parked = asyncio.create_task(ask())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not parked.done()
    parked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parked
    assert call.events == []
