"""Programs that leave tasks behind."""

from __future__ import annotations

import asyncio
import gc
import threading

import dspy

from witness import gate, note, thread_gate

qa = dspy.Predict("question -> answer")


async def background(key: str, name: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        note(key, f"{name} cleaning")
        await gate(key)
        note(key, f"{name} cleaned")


async def forgets(key: str):
    """Answers, and forgets two tasks."""
    for _ in range(2):
        asyncio.create_task(background(key, "stray"))  # noqa: RUF006
    await asyncio.sleep(0)
    return {"answer": "done"}


async def shields(key: str, question: str):
    """Protects an LM call from its own cancellation."""
    return await asyncio.shield(qa.acall(question=question))


async def breeder(key: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        note(key, "bred")
        asyncio.create_task(background(key, "offspring"))  # noqa: RUF006


async def breeds(key: str):
    """Forgets a task that makes another when it is told to stop."""
    asyncio.create_task(breeder(key))  # noqa: RUF006
    await asyncio.sleep(0)
    return {"answer": "done"}


class Client:
    """Closes itself by a task of its own, as the clients of OpenAI and LiteLLM do."""

    def __init__(self, key: str) -> None:
        self.key = key
        # Only the collector finds it.
        self.itself = self

    def __del__(self) -> None:
        asyncio.get_running_loop().create_task(self.close(self.key))

    @staticmethod
    async def close(key: str) -> None:
        note(key, "closing")
        await gate(key)
        note(key, "closed")


class ThreadClient(Client):
    """Closes itself on a thread."""

    def __del__(self) -> None:
        threading.Thread(target=self.close_on_thread, args=(self.key,)).start()

    @staticmethod
    def close_on_thread(key: str) -> None:
        note(key, "closing")
        thread_gate(key).wait()
        note(key, "closed")


async def collects(key: str, on_thread: bool = False):
    """Answers, and has a client collected meanwhile, which may be one of an earlier call."""
    (ThreadClient if on_thread else Client)(key)
    gc.collect()
    return {"answer": "done"}
