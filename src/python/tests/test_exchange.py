"""The chunks of an answer, and the reports of what was read of them."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeCall, FakeExchangeHost

from tower_dspy.exchange import AsyncExchange, SyncExchange, http_request
from tower_dspy.frames import Frames
from tower_dspy.host_proxy import HostProxy
from tower_dspy.proxies import ExchangeProxy

KIB = 1 << 10
HEAD = ("head", 200, [("content-type", "text/event-stream")])


def request() -> Any:
    sent = SimpleNamespace(method="GET", url="http://host/", headers=[], body=b"")
    return http_request(sent, None, lambda _, message: RuntimeError(message), False)


def stream(*sizes: int) -> tuple[tuple[Any, ...], ...]:
    return (HEAD, *(("chunk", b"x" * size) for size in sizes), ("end",))


async def read(kind: str) -> list[int]:
    """The sizes of the chunks of one answer."""
    if kind == "sync":
        opened = SyncExchange(request())
        opened.answer()
        return [len(part) for part in opened.body()]
    opened = AsyncExchange(request())
    await opened.answer()
    return [len(part) async for part in opened.body()]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_chunks_are_reported_as_read_64_kib_at_a_time(
    http: FakeExchangeHost, call: FakeCall, kind: str
) -> None:
    sizes = [40 * KIB, 40 * KIB, 200 * KIB, *[KIB] * 65]
    http.events = stream(*sizes)
    assert await read(kind) == sizes
    assert http.reads == [80 * KIB, 200 * KIB, 64 * KIB]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_short_stream_and_a_whole_answer_are_not_reported(
    http: FakeExchangeHost, call: FakeCall, kind: str
) -> None:
    http.events = stream(*[KIB] * 63)
    assert sum(await read(kind)) == 63 * KIB
    http.events = (("full", 200, [], b"x" * 1000 * KIB),)
    assert await read(kind) == [1000 * KIB]
    assert http.reads == []


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_chunk_that_waits_for_the_program_is_not_reported(
    http: FakeExchangeHost, call: FakeCall, kind: str
) -> None:
    http.events = stream(*[64 * KIB] * 9)
    if kind == "sync":
        opened = SyncExchange(request())
        opened.answer()
        next(opened.body())
    else:
        opened = AsyncExchange(request())
        await opened.answer()
        await anext(opened.body())
    assert http.reads == [64 * KIB]


def test_a_worker_reports_what_its_threads_read_at_once() -> None:
    ours, theirs = socket.socketpair()
    host = HostProxy(Frames(ours))
    ExchangeProxy(host, 7, None, None).read(5)
    sent = [(name, body) for name, body, _ in Frames(theirs).receive()]
    assert sent == [("read", {"exchange": 7, "bytes": 5})]
    for end in (ours, theirs):
        end.close()
