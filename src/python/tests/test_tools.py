from __future__ import annotations

import asyncio
import copy
from typing import Any

import dspy
import pytest

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


class FakeExchange:
    def __init__(self, event: tuple[Any, ...]) -> None:
        self._event = event

    def wait(self) -> tuple[Any, ...]:
        return self._event

    def abort(self) -> None:
        assert self._event[0] != "value", "it has ended"


class FakeHost:
    """Answers each call of a tool with the event."""

    def __init__(self, *event: Any) -> None:
        self._event = event
        self.calls: list[tuple[Any, ...]] = []

    def call_tool(self, tool_id: int, call: Any, arguments: dict, deliver: Any) -> Any:
        self.calls.append((tool_id, arguments))
        if deliver is not None:
            asyncio.get_running_loop().call_soon(deliver, self._event)
        return FakeExchange(self._event)


def tool_of(host: FakeHost) -> dspy.Tool:
    return build_tools(host, [SPEC])["search"]


@pytest.mark.asyncio
async def test_a_tool_is_awaited_in_async_code_and_called_in_sync_code():
    host = FakeHost("value", {"found": 1})
    assert await tool_of(host).acall(query="x") == {"found": 1}
    assert await asyncio.to_thread(tool_of(host), query="x", most=2) == {"found": 1}
    assert host.calls == [(3, {"query": "x"}), (3, {"query": "x", "most": 2})]


@pytest.mark.asyncio
async def test_a_failure_is_an_exception_and_a_cancellation_is_not():
    host = FakeHost("failed", "tool", "no index")
    with pytest.raises(tower_dspy.ToolError, match="no index"):
        await tool_of(host).acall(query="x")
    with pytest.raises(tower_dspy.ToolError, match="no index"):
        await asyncio.to_thread(tool_of(host), query="x")
    with pytest.raises(Cancelled):
        await asyncio.to_thread(tool_of(FakeHost("cancelled")), query="x")


@pytest.mark.asyncio
async def test_arguments_are_checked_by_their_schemas_before_the_host_is_called():
    host = FakeHost("value", None)
    for arguments in [{"query": 1}, {"query": "x", "other": 2}, {"query": "x", "most": "y"}]:
        with pytest.raises(ValueError):
            await tool_of(host).acall(**arguments)
    assert host.calls == []


def test_the_lm_is_shown_which_arguments_it_may_leave_out():
    shown = tool_of(FakeHost()).format_as_litellm_function_call()["function"]
    assert (shown["name"], shown["description"]) == ("search", "Finds.")
    assert shown["parameters"]["required"] == ["query"]


def test_copies_of_a_program_share_its_tools():
    agent = dspy.ReAct("question -> answer", tools=[tool_of(FakeHost())])
    assert copy.deepcopy(agent).tools["search"].func is agent.tools["search"].func


def test_tools_are_those_of_the_program_by_name():
    assert tower_dspy.tools() == []
    offered = build_tools(FakeHost(), [SPEC, {**SPEC, "name": "other"}])
    with dspy.context(tower_dspy_tools=offered):
        assert [tool.name for tool in tower_dspy.tools()] == ["search", "other"]
        assert [tool.name for tool in tower_dspy.tools("other", "search")] == ["other", "search"]
        with pytest.raises(LookupError, match="missing"):
            tower_dspy.tools("missing")
