"""The use of an adapter that an LM call belongs to: it formats the prompt and parses the answer."""

import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import dspy

from tower_dspy.call_stream import CallStream
from tower_dspy.predictors import is_text

CURRENT_ADAPTER_CALL: "ContextVar[AdapterCall | None]" = ContextVar(
    "tower_dspy_adapter_call", default=None
)

# The formats that the host can parse, by the functions that parse them in DSPy.
_FORMATS = {
    inspect.unwrap(dspy.ChatAdapter.parse): "chat",
    inspect.unwrap(dspy.JSONAdapter.parse): "json",
    inspect.unwrap(dspy.XMLAdapter.parse): "xml",
}
# The text as a whole, under the name of no field.
_RAW = "raw"


class AdapterCall:
    """One use of an adapter in a call that is streamed. One LM call of it is streamed.

    Invariants:
    1. An LM call begins with its first text: one that fails before that leaves no trace.
    2. One that has begun ends with its values or with a restart.
    """

    def __init__(self, adapter: Any, signature: Any, stream: CallStream) -> None:
        # The signature by which the answer is parsed.
        self.signature = signature
        # The LM's answers, of which the first is streamed.
        self.outputs: list[Any] = []
        self._adapter = adapter
        self._stream = stream
        self._predictor = ""
        self._fields: list[tuple[str, bool, bool]] | None = None
        # An LM call is being streamed, or was.
        self._taken = False
        # Its number, once it has text.
        self._number: int | None = None

    def take(self) -> bool:
        """Takes the stream for an LM call that begins; false if it is not to be streamed."""
        if self._taken or not self._is_wanted():
            return False
        self._taken = True
        return True

    def text(self, text: str) -> bool:
        """Sends text; returns whether to wait before more is sent."""
        return self._stream.text(self._number or self._begin(), text)

    def thinking(self, text: str) -> bool:
        """Sends the model's reasoning; returns whether to wait before more is sent."""
        return self._stream.thinking(self._number or self._begin(), text)

    def has_begun(self) -> bool:
        """Whether the reader has content of the LM call that is streamed."""
        return self._number is not None

    def is_full(self) -> bool:
        """Whether to wait before more is sent."""
        return self._stream.is_full()

    async def wait(self) -> None:
        """Waits in a task until the reader has read enough."""
        await self._stream.wait()

    def wait_on_thread(self) -> None:
        """Waits on a thread, unless it is that of a loop, until the reader has read enough."""
        self._stream.wait_on_thread()

    def fail(self) -> None:
        """Ends an LM call that failed, or whose answer did not parse. Another may follow."""
        self._taken = False
        number, self._number = self._number, None
        if number is not None:
            self._stream.restart(number)

    def finish(self, values: Any) -> None:
        """Ends the LM call with the adapter's values.

        An answer that was not streamed by its LM is sent as one piece.
        """
        if self._number is None and self.outputs and self._is_wanted():
            text, thinking = _parts(self.outputs[0])
            if thinking:
                self.thinking(thinking)
            if text:
                self.text(text)
        number, self._number = self._number, None
        if number is not None:
            first = values[0] if isinstance(values, list) and values else {}
            self._stream.values(number, self._texts(first))
        elif self._stream.is_chosen and not self._is_wanted():
            self._stream.unstreamed([name for name, its_text, _ in self._fields if its_text])

    def _is_wanted(self) -> bool:
        if self._fields is None:
            modules = dspy.settings.caller_modules
            module = modules[-1] if modules else self._adapter
            self._predictor = name = self._stream.predictors.name(module)
            self._fields = [
                (field, is_text(info.annotation), self._is_field_wanted(name, field, info))
                for field, info in self.signature.output_fields.items()
            ]
        # The main LM call of this one is neither parsed nor a field: a second one extracts those.
        if isinstance(self._adapter, dspy.TwoStepAdapter):
            return False
        return any(wanted for _, _, wanted in self._fields) or (
            self._format() == _RAW and self._stream.is_wanted(self._predictor, "")
        )

    def _is_field_wanted(self, predictor: str, field: str, info: Any) -> bool:
        return is_text(info.annotation) and self._stream.is_wanted(predictor, field)

    def _format(self) -> str:
        parse = self._adapter.parse
        return _FORMATS.get(inspect.unwrap(getattr(parse, "__func__", parse)), _RAW)

    def _begin(self) -> int:
        text_format = self._format()
        fields = [] if text_format == _RAW else self._fields
        self._number = self._stream.begin(self._predictor, text_format, fields)
        return self._number

    def _texts(self, values: Any) -> dict[str, str]:
        if not isinstance(values, Mapping) or self._format() == _RAW:
            return {}
        texts = ((name, values.get(name)) for name, its_text, _ in self._fields if its_text)
        return {
            name: value if isinstance(value, str) else value.content
            for name, value in texts
            if isinstance(value, str | dspy.Reasoning)
        }


def _parts(output: Any) -> tuple[str | None, str | None]:
    """The text and the reasoning of an LM's answer, where it has them."""
    if isinstance(output, str):
        return output, None
    if not isinstance(output, dict):
        return None, None
    parts = (output.get("text"), output.get("reasoning_content"))
    text, thinking = (part if isinstance(part, str) else None for part in parts)
    return text, thinking
