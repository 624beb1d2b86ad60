"""Programs that call tools of Rust's."""

from __future__ import annotations

import asyncio

import dspy

import tower_dspy
import witness


class Agent(dspy.Module):
    """Asks for its tools where it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=tower_dspy.tools("search"))

    async def aforward(self, question: str):
        return await self.react.acall(question=question)


async def use(key: str, way: str, text: str) -> dict:
    """Calls the tool `probe` in one of the ways that programs have."""
    (tool,) = tower_dspy.tools("probe")
    try:
        if way == "task":
            answer = await tool.acall(text=text)
        elif way == "thread":
            answer = await asyncio.to_thread(tool, text=text)
        elif way == "loop of its own":
            answer = await asyncio.to_thread(asyncio.run, _later(tool, text))
        else:
            answer = await tool.acall()
    except tower_dspy.ToolError as error:
        return {"failed": str(error)}
    except BaseException as error:
        witness.note(key, type(error).__name__)
        raise
    return {"answer": answer}


class Use(dspy.Module):
    """The same as a sync program: the tool is called on the thread that this runs on."""

    def __init__(self) -> None:
        super().__init__()
        (self.tool,) = tower_dspy.tools("probe")

    def forward(self, key: str, way: str, text: str):
        try:
            return {"answer": self.tool(text=text) if way == "sync" else self.tool()}
        except tower_dspy.ToolError as error:
            return {"failed": str(error)}
        except BaseException as error:
            witness.note(key, type(error).__name__)
            raise


async def _later(tool: dspy.Tool, text: str):
    return await tool.acall(text=text)


async def again(key: str) -> dict:
    """Calls the tool again after its call was cancelled."""
    (tool,) = tower_dspy.tools("probe")
    for _ in range(2):
        try:
            await tool.acall(text=key)
        except asyncio.CancelledError:
            witness.note(key, "cancelled")
    return {}


class Again(dspy.Module):
    """The same as a sync program."""

    def __init__(self) -> None:
        super().__init__()
        (self.tool,) = tower_dspy.tools("probe")

    def forward(self, key: str):
        for _ in range(2):
            try:
                self.tool(text=key)
            except BaseException as error:
                witness.note(key, type(error).__name__)
        return {}


async def missing() -> dict:
    tower_dspy.tools("no such tool")
    return {}
