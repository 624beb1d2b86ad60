"""Programs of every kind: async, sync, agents with a tool, tasks, threads, waits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import threading
import time
import zlib

import dspy

import tower_dspy


def wait_seconds(question: str) -> str | None:
    """The seconds of a question that begins with `wait SECONDS`."""
    words = question.split()
    return words[1] if words[0] == "wait" else None


def wait(question: str, seconds: str) -> None:
    """Wait: asleep, for an event, for a child process, or for a socket."""
    way = zlib.crc32(question.encode()) % 4
    if way == 0:
        time.sleep(float(seconds))
    elif way == 1:
        threading.Event().wait(float(seconds))
    elif way == 2:
        subprocess.run(["sleep", seconds], check=True)
    else:
        here, there = socket.socketpair()
        with here, there:
            here.settimeout(float(seconds))
            with contextlib.suppress(TimeoutError):
                here.recv(1)


class Sync(dspy.Module):
    """A sync program."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return self.ask(question=question)


class Agent(dspy.Module):
    """An agent with a tool of Rust's."""

    def __init__(self) -> None:
        super().__init__()
        tools = tower_dspy.tools("search")
        self.react = dspy.ReAct("question -> answer", tools=tools, max_iters=3)

    async def aforward(self, question: str):
        return await self.react.acall(question=question)


class Fan(dspy.Module):
    """Three LM calls at once: of the program, of a task, and of a thread. Or a wait of a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        if seconds := wait_seconds(question):
            await dspy.asyncify(wait)(question, seconds)
        task = asyncio.create_task(self.ask.acall(question=question))
        thread = asyncio.to_thread(self.ask, question=question)
        answer = await self.ask.acall(question=question)
        await asyncio.gather(task, thread)
        return answer


class Parallel(dspy.Module):
    """A sync program whose LM calls are made by threads of DSPy's."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        ask = dspy.Parallel(num_threads=2, disable_progress_bar=True, max_errors=9)
        answers = ask([(self.ask, {"question": question})] * 2)
        return next(
            (answer for answer in answers if answer is not None), dspy.Prediction(answer="")
        )


class Waits(dspy.Module):
    """A sync program that waits before its LM call."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        wait(question, wait_seconds(question) or "0.1")
        return self.ask(question=question)


async def tasks() -> int:
    """How many tasks the loop has beside this one, garbage collected first."""
    gc.collect()
    return len(asyncio.all_tasks()) - 1
