"""The tool calls of a streamed call, with DSPy's own status messages about them.

No value of a tool fails the program: one that is not JSON is sent as its text.
"""

from typing import Any

from dspy.streaming import StatusMessageProvider
from dspy.utils.callback import BaseCallback

from tower_dspy.call_stream import CallStream
from tower_dspy.jsonable import to_json_data
from tower_dspy.patches.tools import is_counted
from tower_dspy.payload import from_json, to_json, to_utf8

_STATUS = StatusMessageProvider()


class ToolEvents(BaseCallback):
    """The callback of one call that sends its tool calls to its stream."""

    def __init__(self, stream: CallStream) -> None:
        self._stream = stream
        # Number and name of each tool call that has begun, by DSPy's id of it.
        self._begun: dict[str, tuple[int, str]] = {}

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if not is_counted(instance):
            return
        # A tool takes keywords alone.
        arguments = {name: _json(value) for name, value in inputs.get("kwargs", inputs).items()}
        self._status(_STATUS.tool_start_status_message(instance, inputs))
        name = str(instance.name)
        self._begun[call_id] = self._stream.tool_call(name, arguments), name

    def on_tool_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        begun = self._begun.pop(call_id, None)
        if begun is None:
            return
        if exception is None:
            result = {"value": _json(outputs)}
        else:
            result = {"error": _text(exception) or type(exception).__name__}
        self._stream.tool_result(*begun, result)
        self._status(_STATUS.tool_end_status_message(outputs))

    def _status(self, message: str | None) -> None:
        if message:
            self._stream.status(message)


def _json(value: Any) -> Any:
    """The value as JSON that Rust reads inside an event; its text if it has none."""
    try:
        data = to_json([[to_json_data({"value": value})]])
    except Exception:
        return _text(value)
    return from_json(data)[0][0]["value"]


def _text(value: Any) -> str:
    try:
        return to_utf8(str(value)).decode()
    except Exception:
        return f"<{type(value).__name__}>"
