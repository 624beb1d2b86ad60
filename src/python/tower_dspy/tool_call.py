"""Calls of Rust tools, see toolbox.py: exchanges whose one answer is a value."""

from __future__ import annotations

from typing import Any

from tower_dspy.exchange import AsyncExchange
from tower_dspy.gate import refuse
from tower_dspy.scope import Scope, current_scope
from tower_dspy.toolbox import ToolError


def _failure(_: str, message: str) -> Exception:
    return ToolError(message)


class ToolExchange(AsyncExchange):
    """A call of a tool by code on the loop, or on a loop of its own."""

    def __init__(self, port: Any, tool_id: int, arguments: dict[str, Any]) -> None:
        super().__init__(arguments, None, _failure)
        self._port = port
        self._tool_id = tool_id

    def _open(self, scope: Scope | None) -> Any:
        call = None if scope is None else scope.call
        return self._port.call_tool(self._tool_id, call, self._request, self.deliver)

    async def value(self) -> Any:
        """What the tool answered."""
        event = await self.first()
        self._ended()
        return event[1]


def call_tool(port: Any, tool_id: int, arguments: dict[str, Any]) -> Any:
    """The same for threads."""
    scope = current_scope()
    exchange = port.call_tool(tool_id, None if scope is None else scope.call, arguments, None)
    if exchange is None:
        refuse(scope, "the call was cancelled: it calls no tool any more")
    try:
        event = exchange.wait()
    except BaseException:
        exchange.abort()
        raise
    if event[0] == "cancelled":
        refuse(scope, "the call was cancelled while it waited for a tool")
    if event[0] == "failed":
        raise ToolError(event[2])
    return event[1]
