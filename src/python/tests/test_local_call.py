import asyncio
import contextvars
import math
import time

import dspy
import pytest

import tower_dspy


def search(query: str) -> str:
    """Finds pages."""
    return f"a page on {query}"


class Drafts(dspy.Module):
    """Uses all that a host offers."""

    def forward(self, question: str) -> dspy.Prediction:
        (find,) = tower_dspy.tools("search")
        draft = find(query=question)
        kept = tower_dspy.partial(answer=draft)
        left = tower_dspy.remaining()
        return dspy.Prediction(answer=draft, kept=kept, left=left)


def test_the_limit_counts_down_and_ends_the_call():
    with tower_dspy.local(timeout=1.0) as call:
        first = tower_dspy.remaining()
        assert 0 < tower_dspy.remaining() < first <= 1
        assert tower_dspy.cancelled() is False
        while tower_dspy.remaining() > 0:
            time.sleep(0.005)
        assert tower_dspy.cancelled() is True
        assert tower_dspy.partial(answer="late") is False
    assert call.partial is None
    with tower_dspy.local():
        assert tower_dspy.remaining() is None
    assert tower_dspy.deadline() is None


def test_a_program_uses_all_functions_of_the_package():
    with tower_dspy.local(timeout=10, tools=[search]) as call:
        answer = Drafts()(question="towers")
    assert call.partial == {"answer": "a page on towers"}
    assert (answer.answer, answer.kept) == ("a page on towers", True)
    assert 0 < answer.left <= 10


def test_the_call_reaches_the_threads_of_dspy():
    example = dspy.Example(question="towers").with_inputs("question")
    run = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    with tower_dspy.local(timeout=10, tools=[dspy.Tool(search)]) as call:
        answers = run([(Drafts(), example)] * 2)
    assert [answer.kept for answer in answers] == [True, True]
    assert call.partial == {"answer": "a page on towers"}


@pytest.mark.asyncio
async def test_tasks_belong_to_the_call_that_started_them():
    async def one(answer: str) -> str | None:
        with tower_dspy.local(timeout=10) as call:
            await asyncio.gather(asyncio.to_thread(tower_dspy.partial, answer=answer))
        return call.partial

    assert await asyncio.gather(one("a"), one("b")) == [{"answer": "a"}, {"answer": "b"}]
    assert tower_dspy.remaining() is None


def test_a_partial_answer_is_plain_json_and_the_last_one_counts():
    with tower_dspy.local() as call:
        draft = {"sources": [1, (2, None)]}
        assert tower_dspy.partial(answer="first", more=1) is True
        assert tower_dspy.partial(answer=draft) is True
        draft["sources"] = []
        assert call.partial == {"answer": {"sources": [1, [2, None]]}}


@pytest.mark.parametrize("value", [object(), math.nan, 2**70])
def test_a_local_call_refuses_the_partial_answers_that_a_host_refuses(value):
    with tower_dspy.local() as call:
        with pytest.raises(ValueError, match="the partial answer is not JSON"):
            tower_dspy.partial(answer=value)
        assert call.partial is None


def test_a_cancelled_call_takes_no_partial_answer():
    with tower_dspy.local() as call:
        assert tower_dspy.partial(answer="a draft") is True
        call.cancel()
        assert tower_dspy.cancelled() is True
        assert tower_dspy.partial(answer="late") is False
    assert call.partial == {"answer": "a draft"}


def test_after_the_block_the_call_is_over_for_tasks_that_still_run():
    with tower_dspy.local() as call:
        left_running = contextvars.copy_context()
    assert left_running.run(tower_dspy.cancelled) is True
    assert left_running.run(lambda: tower_dspy.partial(answer="late")) is False
    assert call.partial is None


def test_a_local_call_has_the_budget_that_it_is_given():
    assert tower_dspy.remaining_budget() is None
    with tower_dspy.local():
        assert tower_dspy.remaining_budget() is None
    left = tower_dspy.RemainingBudget(tokens=9, usd=None, wrap_up=True)
    with tower_dspy.local(budget=left):
        assert tower_dspy.remaining_budget() == left
        assert tower_dspy.remaining_budget().wrap_up


def test_tools_that_are_not_given_are_named():
    with tower_dspy.local(tools=[search]):
        assert [tool.name for tool in tower_dspy.tools()] == ["search"]
        with pytest.raises(LookupError, match=r"missing.*search"):
            tower_dspy.tools("missing")
    assert tower_dspy.tools() == []
