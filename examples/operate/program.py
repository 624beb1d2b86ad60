"""A program that misbehaves when it is asked to."""

import asyncio
import contextlib
import threading
import time

import dspy

import tower_dspy


class Program(dspy.Module):
    def __init__(self):
        self.answer = dspy.Predict("question, facts -> answer")
        (self.look_up,) = tower_dspy.tools("look_up")

    async def aforward(self, question):
        if question == "blocked":
            # In async code: nothing else of this process goes on. The host does not end this wait.
            held = threading.Lock()
            held.acquire()
            held.acquire(timeout=20)
        if question == "ignore-cancel":
            await ignore_cancel()
        facts = await self.look_up.acall(topic=question)
        return await self.answer.acall(question=question, facts=facts)


async def ignore_cancel():
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
