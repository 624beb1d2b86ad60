"""Programs that let secrets out in all ways that a program has."""

from __future__ import annotations

import asyncio
import logging
import warnings

import dspy

import tower_dspy
import witness

_log = logging.getLogger("confides.app")


def look_up(text: str) -> str:
    return f"all about {text}"


class Secrets:
    """Secrets by name, made of the one that a call is asked with."""

    def __init__(self, question: str) -> None:
        self._question = question

    def __getitem__(self, name: str) -> str:
        return self._question.replace("input", name)

    def log(self) -> None:
        """Logs and warns, with an exception as well."""
        _log.warning("saw %s", self["log"])
        warnings.warn(f"saw {self['warning']}", stacklevel=1)
        try:
            raise KeyError(self["logged-exception"])
        except KeyError:
            _log.exception("failed on %s", self["log"])

    def error(self) -> Exception:
        error = ValueError(f"failed on {self['exception']}")
        error.__cause__ = KeyError(self["cause"])
        return error


class Confides(dspy.Module):
    """In a task, or on a thread as a sync program."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.tools = [dspy.Tool(look_up), *tower_dspy.tools("probe")]

    def forward(self, question: str, end: str):
        secrets = Secrets(question)
        secrets.log()
        for tool in self.tools:
            tool(text=secrets["argument"])
        answer = self.ask(question=question).answer
        return _end(secrets, end, answer)


class ConfidesInTask(Confides):
    async def aforward(self, question: str, end: str):
        secrets = Secrets(question)
        secrets.log()
        for tool in self.tools:
            await tool.acall(text=secrets["argument"])
        answer = (await self.ask.acall(question=question)).answer
        if not end.startswith("hangs"):
            return _end(secrets, end, answer)
        tower_dspy.partial(answer=secrets["partial"])
        witness.note(end, "hangs")
        try:
            await asyncio.sleep(3600)
        finally:
            raise secrets.error()


def _end(secrets: Secrets, end: str, answer: str) -> dict:
    tower_dspy.status(secrets["status"])
    tower_dspy.partial(answer=secrets["partial"])
    if end == "raises":
        raise secrets.error()
    return {"answer": answer}
