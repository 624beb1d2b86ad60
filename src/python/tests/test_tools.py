import asyncio
import copy

import dspy
import pytest
from fakes import FakeExchangeHost

import tower_dspy
from tower_dspy.call_state import Cancelled
from tower_dspy.host_tools import build_tools

SPEC = {
    "id": 3,
    "name": "search",
    "description": "Finds.",
    "arguments": {"query": {"type": "string"}, "most": {"type": "integer"}},
    "required": ["query"],
}


def tool_of(host: FakeExchangeHost) -> dspy.Tool:
    return build_tools(host, [SPEC])["search"]


@pytest.mark.asyncio
async def test_a_tool_is_awaited_in_async_code_and_called_in_sync_code():
    host = FakeExchangeHost(("value", {"found": 1}))
    assert await tool_of(host).acall(query="x") == {"found": 1}
    assert await asyncio.to_thread(tool_of(host), query="x", most=2) == {"found": 1}
    assert host.tool_calls == [(3, {"query": "x"}), (3, {"query": "x", "most": 2})]
    assert host.aborted == 0


@pytest.mark.asyncio
async def test_a_failure_is_an_exception_and_a_cancellation_is_not():
    host = FakeExchangeHost(("failed", "tool", "no index"))
    with pytest.raises(tower_dspy.ToolError, match="no index"):
        await tool_of(host).acall(query="x")
    with pytest.raises(tower_dspy.ToolError, match="no index"):
        await asyncio.to_thread(tool_of(host), query="x")
    with pytest.raises(Cancelled):
        await asyncio.to_thread(tool_of(FakeExchangeHost(("cancelled",))), query="x")


@pytest.mark.asyncio
async def test_arguments_are_checked_by_their_schemas_before_the_host_is_called():
    host = FakeExchangeHost(("value", None))
    for arguments in [{"query": 1}, {"query": "x", "other": 2}, {"query": "x", "most": "y"}]:
        with pytest.raises(ValueError):
            await tool_of(host).acall(**arguments)
    assert host.tool_calls == []


def test_the_lm_is_shown_which_arguments_it_may_leave_out():
    shown = tool_of(FakeExchangeHost()).format_as_litellm_function_call()["function"]
    assert (shown["name"], shown["description"]) == ("search", "Finds.")
    assert shown["parameters"]["required"] == ["query"]


def test_copies_of_a_program_share_its_tools():
    agent = dspy.ReAct("question -> answer", tools=[tool_of(FakeExchangeHost())])
    assert copy.deepcopy(agent).tools["search"].func is agent.tools["search"].func


def test_tools_are_those_of_the_program_by_name():
    assert tower_dspy.tools() == []
    offered = build_tools(FakeExchangeHost(), [SPEC, {**SPEC, "name": "other"}])
    with dspy.context(tower_dspy_tools=offered):
        assert [tool.name for tool in tower_dspy.tools()] == ["search", "other"]
        assert [tool.name for tool in tower_dspy.tools("other", "search")] == ["other", "search"]
        with pytest.raises(LookupError, match="missing"):
            tower_dspy.tools("missing")
