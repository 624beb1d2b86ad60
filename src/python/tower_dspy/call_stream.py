"""The stream of a call to its reader: the text of its LM calls, its statuses and its tool calls.

The host's side of the call takes it, on any thread, and drops it once the call is over:

    call.stream()             None if nobody reads a stream of the call, else (chosen, pairs):
                              whether the reader chose fields, and its pairs of predictor and field
    call.stream_text(lm_call, text)
                              text of an LM call, as the LM sends it
    call.stream_thinking(lm_call, text)
                              text of the model's own reasoning
    call.stream_event(event)  all else, as JSON: `begin`, `values` and `restart` of an LM call,
                              `unstreamed`, `status`, `tool_call` and `tool_result`

The stream is bounded: a streamed LM call that has sent `WINDOW` bytes since the call's last wait
waits until the reader has read enough, and so does each use of an adapter before and after its LM
call, see patches/adapters.py. Sync code on a loop cannot wait, nor can a status or a tool's event:
what they send counts for the next wait.
"""

import asyncio
import itertools
import threading
from collections.abc import Container
from typing import Any

from tower_dspy.exchange import AsyncExchange, SyncExchange, reader_request
from tower_dspy.payload import to_json, to_utf8
from tower_dspy.predictors import Predictors

# Bytes of UTF-8.
WINDOW = 32 * 1024
# What an event takes beside its text, about, as the host counts it.
_EVENT = 64


class CallStream:
    """The stream of one call, for all its tasks and threads."""

    def __init__(
        self,
        call: Any,
        selection: tuple[bool, Any],
        predictors: Predictors,
        outputs: Container[str] | None,
    ) -> None:
        """`outputs` is the program's text outputs, the choice of a reader that made none."""
        self.predictors = predictors
        self._call = call
        chosen, pairs = selection
        self._chosen = {tuple(pair) for pair in pairs} if chosen else None
        self._outputs = outputs
        self._lm_calls = itertools.count(1)
        self._tool_calls = itertools.count(1)
        # All bytes, and those that were sent before the last wait.
        self._sent = self._awaited = 0
        # That of the last delta, which the host joins with the next one of the same; None after
        # another event.
        self._source: int | None = None
        self._lock = threading.Lock()

    def is_wanted(self, predictor: str, field: str) -> bool:
        """Whether the reader wants the text of a predictor's field."""
        if self._chosen is not None:
            return (predictor, field) in self._chosen
        return self._outputs is None or field in self._outputs

    def begin(self, predictor: str, text_format: str, fields: list[tuple[str, bool, bool]]) -> int:
        """Begins the text of an LM call; returns its number."""
        number = next(self._lm_calls)
        begin = {"lm_call": number, "predictor": predictor, "format": text_format}
        self._event({"begin": {**begin, "fields": [list(field) for field in fields]}})
        return number

    def text(self, lm_call: int, text: str) -> bool:
        """Sends text of an LM call; returns whether to wait before more is sent."""
        text, size = _valid(text)
        self._call.stream_text(lm_call, text)
        return self._count(size, lm_call)

    def thinking(self, lm_call: int, text: str) -> bool:
        """Sends text of the model's reasoning; returns whether to wait before more is sent."""
        text, size = _valid(text)
        self._call.stream_thinking(lm_call, text)
        return self._count(size, -lm_call)

    def values(self, lm_call: int, values: dict[str, str]) -> None:
        """Sends the text fields as DSPy parsed them. The reader has had them, as a rule."""
        values = {name: _valid(text)[0] for name, text in values.items()}
        self._call.stream_event({"values": {"lm_call": lm_call, "values": values}})

    @property
    def is_chosen(self) -> bool:
        """Whether the reader chose fields."""
        return self._chosen is not None

    def unstreamed(self, fields: list[str]) -> None:
        """Reports that an LM call wrote these text fields which the reader did not choose."""
        if fields:
            self._event({"unstreamed": {"fields": fields}})

    def restart(self, lm_call: int) -> None:
        """Reports that the text of an LM call does not hold."""
        self._event({"restart": {"lm_call": lm_call}})

    def status(self, message: str) -> None:
        """Sends a status message."""
        self._event({"status": {"message": _valid(message)[0]}})

    def tool_call(self, name: str, arguments: dict[str, Any]) -> int:
        """Sends the call of a tool, with arguments that are JSON; returns its number."""
        number = next(self._tool_calls)
        self._event({"tool_call": {"id": number, "name": name, "arguments": arguments}})
        return number

    def tool_result(self, number: int, name: str, result: dict[str, Any]) -> None:
        """Sends the result of a tool: its `value`, which is JSON, or its `error`."""
        self._event({"tool_result": {"id": number, "name": name, **result}})

    def is_full(self) -> bool:
        """Whether to wait before more is sent."""
        return self._sent - self._awaited >= WINDOW

    async def wait(self) -> None:
        """Waits in a task until the reader has read enough."""
        sent = self._sent
        await AsyncExchange(reader_request()).first()
        self._count_awaited(sent)

    def wait_on_thread(self) -> None:
        """Waits on a thread until the reader has read enough. Does nothing on the thread of a loop,
        which would stand still with all its tasks."""
        if asyncio._get_running_loop() is not None:
            return
        sent = self._sent
        SyncExchange(reader_request()).first()
        self._count_awaited(sent)

    def _event(self, event: dict[str, Any]) -> None:
        self._call.stream_event(event)
        self._count(len(to_json(event)), None)

    def _count(self, size: int, source: int | None) -> bool:
        with self._lock:
            if source is None or source != self._source:
                self._source = source
                size += _EVENT
            self._sent += size
            return self._sent - self._awaited >= WINDOW

    def _count_awaited(self, sent: int) -> None:
        with self._lock:
            # Two waits may end in the other order.
            self._awaited = max(self._awaited, sent)


def _valid(text: str) -> tuple[str, int]:
    """The text without lone surrogates, and its bytes."""
    if text.isascii():
        return text, len(text)
    data = to_utf8(text)
    return data.decode(), len(data)
