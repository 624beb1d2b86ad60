"""Rust functions that a program may call, as DSPy's tools.

The port's side of one call of a tool is

    port.call_tool(tool_id, call, arguments, deliver)

which returns an exchange, as an LM call does (see exchange.py), or None if the call may not make
any. Its one event is `("value", value)`, `("failed", kind, message)` or `("cancelled",)`.
"""

from __future__ import annotations

import asyncio
from typing import Any


class ToolError(Exception):
    """A tool failed; the message is what its error says."""


def tools(*names: str) -> list[Any]:
    """The tools that the program was loaded with, as a list of `dspy.Tool`.

    All of them, or those of these names in this order. To be asked while a program is made or
    runs, not when its module is imported: that happens once, for whoever loads it first.
    """
    import dspy

    offered = dspy.settings.get("tower_dspy_tools") or {}
    if not names:
        return list(offered.values())
    missing = [name for name in names if name not in offered]
    if missing:
        raise LookupError(
            f"the program was loaded without the tools {missing}; there are {list(offered)}"
        )
    return [offered[name] for name in names]


def build(port: Any, specs: Any) -> dict[str, Any]:
    """The tools of a load request, by name."""
    import dspy

    built = {}
    for spec in specs:
        arguments = {name: dict(schema) for name, schema in spec["arguments"].items()}
        for name in arguments.keys() - spec["required"]:
            # What has a default is not required, to DSPy.
            arguments[name].setdefault("default", None)
        tool = dspy.Tool(
            _Function(port, spec["id"]),
            name=spec["name"],
            desc=spec["description"],
            args=arguments,
            arg_types={},
        )
        # It takes any keyword, and is to be called with those that it names.
        tool.has_kwargs = False
        built[spec["name"]] = tool
    return built


class _Function:
    """Awaited in async code, called in sync code."""

    def __init__(self, port: Any, tool_id: int) -> None:
        self._port = port
        self._id = tool_id

    def __deepcopy__(self, _: dict[int, Any]) -> _Function:
        return self

    def __call__(self, **arguments: Any) -> Any:
        from tower_dspy import tool_call

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return tool_call.call_tool(self._port, self._id, arguments)
        return tool_call.ToolExchange(self._port, self._id, arguments).value()
