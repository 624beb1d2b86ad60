"""Tool calls and statuses in a call that is streamed."""

import asyncio
import math

import dspy
import pytest
from conftest import in_call
from fakes import FakeCall
from streamed import StreamCall, StreamHost, as_chat, pieces, predict

import tower_dspy
from tower_dspy.call_stream import CallStream
from tower_dspy.predictors import Predictors
from tower_dspy.tool_events import ToolEvents

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]


def search(query: str) -> str:
    """Finds a page."""
    tower_dspy.status(f"reading about {query}")
    return f"a page on {query}"


async def asearch(query: str) -> str:
    """Finds a page."""
    await asyncio.sleep(0)
    return search(query)


def breaks(query: str) -> str:
    """Finds nothing."""
    raise LookupError(f"nothing on {query}")


class Agent(dspy.Module):
    """An agent that calls each tool once."""

    TOOLS = (search, breaks)

    def __init__(self) -> None:
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=list(self.TOOLS))

    def forward(self, question: str):
        return self.react(question=question)


class AsyncAgent(Agent):
    TOOLS = (asearch, breaks)

    async def aforward(self, question: str):
        return await self.react.acall(question=question)


def steps(*tools: str):
    """The LM of an agent: a thought with each tool, then an answer."""
    fields = [
        {"next_thought": "hm", "next_tool_name": tool, "next_tool_args": args}
        for tool, args in (*((tool, '{"query": "towers"}') for tool in tools), ("finish", "{}"))
    ]
    answers = iter([*fields, {"reasoning": "so", "answer": "four"}])
    return lambda _: pieces(as_chat(**next(answers)))


@pytest.mark.parametrize(("agent", "tool"), [("Agent", "search"), ("AsyncAgent", "asearch")])
async def test_tool_calls_are_sent_with_dspys_own_messages(agent, tool):
    StreamHost(steps(tool, "breaks"))
    call, answer = await predict(f"test_tool_events:{agent}")
    assert answer["answer"] == "four"
    arguments = {"query": "towers"}
    finished = "Tool calling finished! Querying the LLM with tool calling results..."
    tools = [(kind, what) for kind, _, what in call.sent if kind.startswith(("tool", "status"))]
    assert tools == [
        ("status", {"message": f"Calling tool {tool}..."}),
        ("tool_call", {"id": 1, "name": tool, "arguments": arguments}),
        ("status", {"message": "reading about towers"}),
        ("tool_result", {"id": 1, "name": tool, "value": "a page on towers"}),
        ("status", {"message": finished}),
        ("status", {"message": "Calling tool breaks..."}),
        ("tool_call", {"id": 2, "name": "breaks", "arguments": arguments}),
        ("tool_result", {"id": 2, "name": "breaks", "error": "nothing on towers"}),
        ("status", {"message": finished}),
    ]
    assert [begin["predictor"] for begin in call.of("begin")] == [
        *["react.react"] * 3,
        "react.extract.predict",
    ]


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested(depth: int) -> list:
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ({"a": [1, None]}, {"a": [1, None]}),
        (dspy.Prediction(answer="x"), {"answer": "x"}),
        (math.inf, "inf"),
        (1 << 70, str(1 << 70)),
        ({1, 2}, [1, 2]),
        (object, "<class 'object'>"),
        ("half \ud83d", "half \ufffd"),
        (nested(125), str(nested(125))),
        (Odd(), "<Odd>"),
    ],
)
async def test_values_that_are_no_json_are_sent_as_their_text(value, sent):
    call = StreamCall()
    events = ToolEvents(CallStream(call, call.stream(), Predictors(None), None))
    tool = dspy.Tool(lambda value: value, name="echo", arg_types={"value": object})
    with dspy.context(callbacks=[events]):
        assert tool(value=value) is value
    (called,), (result,) = call.of("tool_call"), call.of("tool_result")
    assert called["arguments"] == {"value": sent}
    assert result["value"] == sent


async def test_a_tool_of_the_users_own_that_is_named_finish_is_sent():
    call = StreamCall()
    events = ToolEvents(CallStream(call, call.stream(), Predictors(None), None))
    with dspy.context(callbacks=[events]):
        await dspy.Tool(lambda: None, name="finish").acall()
    assert call.of("tool_result") == [{"id": 1, "name": "finish", "value": None}]


async def test_a_status_tells_whether_it_has_a_reader():
    assert tower_dspy.status("no call") is False
    with in_call(FakeCall()):
        assert tower_dspy.status("no reader") is False
    call = StreamCall()
    with in_call(call) as state:
        state.stream = CallStream(call, call.stream(), Predictors(None), None)
        assert tower_dspy.status("read") is True
        call.cancelled_by_host = True
        assert tower_dspy.status("late") is False
    assert call.of("status") == [{"message": "read"}]
    with pytest.raises(TypeError, match="int"):
        tower_dspy.status(1)


async def test_a_local_call_keeps_the_statuses():
    with tower_dspy.local() as call:
        assert tower_dspy.status("one") is True
        await asyncio.to_thread(tower_dspy.status, "two")
        call.cancel()
        assert tower_dspy.status("late") is False
    assert call.statuses == ["one", "two"]
