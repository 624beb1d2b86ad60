"""A fake LM that writes its answers piece by piece, and the caller's side of a streamed call."""

import asyncio
import json
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from conftest import HOST_LM, chat, in_call
from fakes import FakeCall, FakeLmHost

from tower_dspy import exchange, program

SSE = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json")]

# Events of an exchange, or pieces of text.
Answer = str | Iterable[Any]


def pieces(text: str, size: int = 4) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def as_chat(completed: bool = True, **fields: str) -> str:
    """An answer in the format of `dspy.ChatAdapter`."""
    sections = [f"[[ ## {name} ## ]]\n{text}" for name, text in fields.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"] if completed else sections)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One event of OpenAI's stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return sse({**body, "choices": [choice], **more})


def sse(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def usage_and_end() -> list[bytes]:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    empty = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [
        chunk({}, "stop"),
        sse({**empty, "choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


def events(answer: Answer, streamed: bool) -> list[tuple[Any, ...]]:
    """The events of the exchange with the LM."""
    parts = [answer] if isinstance(answer, str) else list(answer)
    if any(isinstance(part, tuple) for part in parts):
        return parts
    if not streamed:
        text = "".join(part for part in parts if isinstance(part, str))
        return [("full", 200, JSON, json.dumps(chat(text)).encode())]
    written = [
        chunk({"content": part} if isinstance(part, str) else part)
        if isinstance(part, str | dict)
        else part
        for part in parts
    ]
    if not any(isinstance(part, bytes) for part in parts):
        written += usage_and_end()
    return [("head", 200, SSE), *(("chunk", part) for part in written), ("end",)]


class StreamHost:
    """The host of LM calls, which each get the answer that a function has for their request."""

    def __init__(self, answer: Answer | Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[Any] = []
        self.exchanges: list[Exchange] = []
        self.aborted = 0
        # Those that wait for the reader, in case that is slow.
        self.is_slow = False
        self.waiting: list[Exchange] = []
        # That of the host's thread.
        self.loop = asyncio.get_running_loop()
        exchange.connect(self)

    def open(
        self, _route: Any, _timeout: Any, _call: Any, request: Any, deliver: Any, _: Any
    ) -> Any:
        body = json.loads(bytes(request.body))
        self.bodies.append(body)
        self.requests.append(request)
        answer = self.answer(body) if callable(self.answer) else self.answer
        opened = Exchange(self, deliver, events(answer, body.get("stream", False)))
        self.exchanges.append(opened)
        return opened

    def await_reader(self, call: Any, deliver: Any) -> Any:
        waiting = Exchange(self, deliver, [] if self.is_slow else [("value", None)])
        self.waiting.append(waiting)
        return waiting

    @property
    def streamed(self) -> list[bool]:
        """Whether each request asked for a stream."""
        return [body.get("stream", False) for body in self.bodies]


class Exchange:
    number = 1

    def __init__(self, host: StreamHost, deliver: Any, known: list[tuple[Any, ...]]) -> None:
        self._host = host
        self._deliver = deliver
        self._events: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        for event in known:
            self.tell(event)

    def tell(self, event: tuple[Any, ...]) -> None:
        if self._deliver is None:
            self._events.put(event)
        else:
            self._host.loop.call_soon_threadsafe(self._deliver, event)

    def wait(self) -> tuple[Any, ...]:
        return self._events.get(timeout=30)

    def read(self, count: int) -> None:
        """The host would read on."""

    def cancel(self) -> None:
        """Wakes a thread, as the host does when the call is cancelled."""
        self._events.put(("cancelled",))

    def abort(self) -> None:
        self._host.aborted += 1


class StreamCall(FakeCall):
    """A call whose stream is read. `chosen` are pairs of predictor and field; None by default."""

    def __init__(self, *chosen: tuple[str, str]) -> None:
        super().__init__()
        self.chosen = [list(pair) for pair in chosen]
        # What was sent, in its order: (kind, number of the LM call or None, what).
        self.sent: list[tuple[str, Any, Any]] = []

    def stream(self) -> tuple[bool, list[list[str]]]:
        return bool(self.chosen), self.chosen

    def stream_text(self, lm_call: int, text: str) -> None:
        assert text and text.encode()
        self._send("text", lm_call, text)

    def stream_thinking(self, lm_call: int, text: str) -> None:
        assert text and text.encode()
        self._send("thinking", lm_call, text)

    def stream_event(self, event: dict[str, Any]) -> None:
        ((kind, body),) = json.loads(json.dumps(event)).items()
        self._send(kind, body.pop("lm_call", None), body)

    def _send(self, *what: Any) -> None:
        if not self.is_over():
            self.sent.append(what)

    def of(self, kind: str) -> list[Any]:
        return [what for its, _, what in self.sent if its == kind]

    def numbers(self, kind: str) -> list[Any]:
        return [number for its, number, _ in self.sent if its == kind]

    def text(self, lm_call: int) -> str:
        """The text of an LM call that arrived."""
        sent = (what for kind, number, what in self.sent if (kind, number) == ("text", lm_call))
        return "".join(sent)

    def kinds(self, lm_call: int) -> list[str]:
        """The kinds of what was sent of an LM call, without repetitions."""
        kinds = [kind for kind, number, _ in self.sent if number == lm_call]
        return [kind for i, kind in enumerate(kinds) if kinds[i - 1 : i] != [kind]]


def load(target: str, **spec: Any) -> program.Program:
    return program.load(FakeLmHost(), {"target": target, "lm": HOST_LM, **spec})


async def predict(
    target: str | program.Program, call: StreamCall | None = None, **inputs: Any
) -> tuple[StreamCall, dict[str, Any]]:
    """Runs a program in a streamed call, a sync one on a thread."""
    loaded = load(target) if isinstance(target, str) else target
    call = call or StreamCall()
    inputs = inputs or {"question": "?"}
    with in_call(call):
        if loaded.blocking:
            return call, await asyncio.to_thread(loaded.run, inputs)
        return call, await loaded(inputs)
