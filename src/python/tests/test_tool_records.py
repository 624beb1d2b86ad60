"""The tool calls that the host records, in calls that nobody streams."""

import asyncio

import dspy
import pytest
from fakes import FakeCall, FakeExchangeHost

from tower_dspy.host_tools import build_tools
from tower_dspy.patches import tools

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]
tools.install()


def search(query: str) -> str:
    return f"a page on {query}"


async def asearch(query: str) -> str:
    await asyncio.sleep(0)
    return search(query)


def breaks() -> str:
    raise LookupError("SECRET")


async def stops() -> str:
    raise asyncio.CancelledError


def recorded(call: FakeCall) -> list[tuple[str, bool]]:
    """The names of the tool calls, and whether they failed, in the order of their ends."""
    names = dict(call.named("tool_began"))
    return [(names[number], failed) for number, failed in call.named("tool_ended")]


async def test_tool_calls_are_reported_by_name_alone(call: FakeCall) -> None:
    assert dspy.Tool(search)(query="SECRET") == "a page on SECRET"
    assert await dspy.Tool(asearch).acall(query="SECRET") == "a page on SECRET"
    with pytest.raises(LookupError):
        dspy.Tool(breaks)()
    with pytest.raises(asyncio.CancelledError):
        await dspy.Tool(stops).acall()
    dspy.Tool(search, name="n" * 1000)(query="?")
    assert recorded(call) == [
        ("search", False),
        ("asearch", False),
        ("breaks", True),
        ("stops", True),
        ("n" * 64, False),
    ]
    assert "SECRET" not in str(call.events)


async def test_a_tool_of_the_host_and_the_end_of_an_agent_are_not_reported(call: FakeCall) -> None:
    spec = {"id": 1, "name": "hosted", "description": "", "arguments": {}, "required": []}
    hosted = build_tools(FakeExchangeHost(("value", 1)), [spec])["hosted"]
    assert await hosted.acall() == 1
    agent = dspy.ReAct("question -> answer", tools=[search])
    agent.tools["finish"]()
    assert recorded(call) == []


async def test_a_tool_outside_of_calls_is_called() -> None:
    assert dspy.Tool(search)(query="towers") == "a page on towers"
