"""The `dspy.Tool`s of a load request, each of which calls a Rust function.

The host's side of one call of a tool is

    host.call_tool(tool_id, call, arguments, trace, deliver)

where `trace` is the W3C headers of Python's current span. It returns an exchange (see exchange.py),
or None if the call may not make any. Its one event is `("value", value)`,
`("failed", kind, message)` or `("cancelled",)`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import dspy

from tower_dspy.api import ToolError
from tower_dspy.call_state import CallState
from tower_dspy.exchange import AsyncExchange, Request, SyncExchange
from tower_dspy.trace_context import headers


def build_tools(host: Any, specs: Any) -> dict[str, dspy.Tool]:
    """The tools of a load request, by name."""
    built = {}
    for spec in specs:
        arguments = {name: dict(schema) for name, schema in spec["arguments"].items()}
        for name in arguments.keys() - spec["required"]:
            # To DSPy an argument with a default is not required.
            arguments[name].setdefault("default", None)
        tool = dspy.Tool(
            _tool_function(host, spec["id"]),
            name=spec["name"],
            desc=spec["description"],
            args=arguments,
            arg_types={},
        )
        # The function takes any keyword; the tool takes the named arguments alone.
        tool.has_kwargs = False
        built[spec["name"]] = tool
    return built


def _tool_function(host: Any, tool_id: int) -> Callable[..., Any]:
    """The function of a tool: async code awaits what it returns, sync code gets the value."""

    def call_tool(**arguments: Any) -> Any:
        def open_exchange(state: CallState | None, deliver: Any) -> Any:
            call = None if state is None else state.call
            return host.call_tool(tool_id, call, arguments, headers(), deliver)

        request = Request(open_exchange, lambda _, message: ToolError(message))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return SyncExchange(request).first()[1]
        return _async_value(request)

    return call_tool


async def _async_value(request: Request) -> Any:
    return (await AsyncExchange(request).first())[1]
