"""Programs that clean up after themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dspy

from witness import clean_up, note

qa = dspy.Predict("question -> answer")


async def ask(key: str, question: str):
    """Asks the LM and notes that its clean-up ran."""
    try:
        return await qa.acall(question=question)
    except asyncio.CancelledError:
        note(key, "cancelled")
        raise
    finally:
        note(key, "finally")


async def slow(key: str, question: str):
    """Cleans up for as long as the gate is shut, and notes a clean-up that is cut short."""
    try:
        return await qa.acall(question=question)
    finally:
        await clean_up(key)


async def asks_again(key: str, question: str):
    """Swallows the cancellation and makes what it can of the rest of its time."""
    try:
        return await qa.acall(question=question)
    except asyncio.CancelledError:
        note(key, "swallowed")
        return {"answer": "nevertheless"}


async def leaves_a_file(key: str, question: str):
    """Leaves a mark that outlives the host."""
    try:
        return await qa.acall(question=question)
    finally:
        await asyncio.sleep(0.05)
        Path(key).write_text("cleaned")
