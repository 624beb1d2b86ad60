"""Sync programs: modules that have a `forward` and no `aforward`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import dspy

import tower_dspy
from witness import note, thread_gate


class _Asks(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")


class Asks(_Asks):
    """Asks the LM and notes that its clean-up ran to its end."""

    def forward(self, key: str, question: str):
        try:
            return self.qa(question=question)
        finally:
            note(key, "cleaning")
            thread_gate(key).wait(30)
            note(key, "cleaned")


class Retries(_Asks):
    """What a careless program does: any failure is worth another LM call."""

    def forward(self, question: str):
        for _ in range(3):
            try:
                return self.qa(question=question)
            except Exception:
                continue
        raise RuntimeError("no luck")


class Swallows(_Asks):
    """Not even a BaseException ends it; each turn asks again."""

    def forward(self, question: str, times: int):
        for _ in range(times):
            try:
                self.qa(question=question)
            except BaseException:
                continue
        return {"answer": "done"}


class Parallel(_Asks):
    """`dspy.Parallel` has threads of its own."""

    def forward(self, question: str, times: int):
        parallel = dspy.Parallel(num_threads=times, disable_progress_bar=True)
        asked = [
            (self.qa, dspy.Example(question=f"{question} {n}").with_inputs("question"))
            for n in range(times)
        ]
        return {"answers": [answer.answer for answer in parallel(asked)]}


class Says(dspy.Module):
    """Where it runs and what it knows of its call."""

    def forward(self, key: str):
        note(key, threading.current_thread().name.rpartition("-")[0])
        return {"limited": tower_dspy.deadline() is not None, "over": tower_dspy.cancelled()}


class Waits(dspy.Module):
    """Blocks its thread until the test opens its gate."""

    def forward(self, key: str):
        thread_gate(key).note_and_wait(key, "running")
        note(key, "waited")
        return {}


class Busy(dspy.Module):
    """Never ends by itself, and cleans up."""

    def forward(self, key: str):
        try:
            note(key, "running")
            while True:
                pass
        finally:
            note(key, "cleaned")


class Stubborn(dspy.Module):
    """Swallows everything until the test opens its gate."""

    def forward(self, key: str):
        gate, event = thread_gate(key), "running"
        while not gate.is_set():
            try:
                note(key, event)
                while not gate.wait(0.001):
                    pass
            except BaseException:
                event = "swallowed"
        return {"answer": "nevertheless"}


class OutlivesItsHost(dspy.Module):
    """Swallows everything until there is a file of this name; makes another when it begins."""

    def forward(self, path: str):
        while True:
            try:
                Path(f"{path}.begun").touch()
                while not Path(path).exists():
                    threading.Event().wait(0.01)
                return {"answer": "nevertheless"}
            except BaseException:
                continue


def best_of():
    return dspy.BestOfN(
        dspy.Predict("question -> answer"), N=3, reward_fn=lambda _, made: 0.0, threshold=1.0
    )


def refined():
    return dspy.Refine(dspy.Predict("question -> answer"), N=3, reward_fn=_no_reward, threshold=1.0)


def _no_reward(_, made):
    return 0.0


async def open_thread_gate(key: str) -> None:
    """For the tests: lets through the threads that wait, now and later."""
    thread_gate(key).set()


async def switch_threads_every(seconds: float) -> float:
    """For the tests: how long a thread keeps the interpreter; returns what it was before."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    return before
