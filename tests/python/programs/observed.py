"""Programs whose tools, log records and ends the host records."""

from __future__ import annotations

import asyncio
import logging
import socket
import warnings

import dspy

import tower_dspy
import witness

_log = logging.getLogger("observed.app")


def search(query: str) -> str:
    return f"a page on {query}"


def breaks() -> str:
    raise LookupError("no page")


async def waits() -> str:
    await asyncio.sleep(3600)


class SyncTools(dspy.Module):
    """Calls tools of its own and one of Rust's."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = [dspy.Tool(search), *tower_dspy.tools("probe"), dspy.Tool(breaks)]

    def forward(self, question: str):
        own, probe, breaking = self.tools
        own(query=question)
        probe(text=question)
        try:
            breaking()
        except LookupError:
            return {"answer": "done"}


class AsyncTools(SyncTools):
    async def aforward(self, question: str):
        own, probe, breaking = self.tools
        await own.acall(query=question)
        await probe.acall(text=question)
        try:
            await breaking.acall()
        except LookupError:
            await dspy.Tool(waits).acall()


class LogsInParallel(dspy.Module):
    def forward(self, question: str):
        _log.warning("SAID in parallel")
        return dspy.Prediction(answer=question)


async def logs(question: str) -> dict:
    """Logs in its task and on threads of its own, and warns."""
    _log.warning("SAID in its task with the key sk-1234567890abcdef")
    for _ in range(2):
        warnings.warn("SAID as a warning", stacklevel=1)
    example = dspy.Example(question=question).with_inputs("question")
    parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    await asyncio.to_thread(parallel, [(LogsInParallel(), example)] * 2)
    return {"answer": "said"}


async def goes_on(key: str, question: str) -> dict:
    """Answers in spite of a cancel, and after that."""
    try:
        # In here: the loop of a busy machine may stand still in it, and then it is cut short.
        witness.note(key, "begun")
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        tower_dspy.partial(answer="late")
    return {"answer": "SECRET"}


async def fails_late(key: str, question: str) -> dict:
    try:
        witness.note(key, "begun")
        await asyncio.sleep(3600)
    finally:
        raise ValueError("SECRET")


async def raises(question: str) -> dict:
    return _raise(question)


def _raise(question: str) -> dict:
    raise ValueError(f"SECRET {question}")


async def blocks(port: int) -> dict:
    """Blocks the loop until the test's listener writes or closes."""
    with socket.socket() as peer:
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
        # The loop beats meanwhile, so that an earlier delay is not part of this block.
        await asyncio.sleep(0.1)
        peer.setblocking(True)
        _receives(peer)
    return {}


def _receives(peer: socket.socket) -> None:
    peer.recv(1)
