"""Programs that ask the LM, and about their call."""

from __future__ import annotations

import asyncio
import time

import dspy

import tower_dspy
from witness import gate, note

qa = dspy.Predict("question -> answer")


async def twice(question: str):
    """Asks twice, one after the other."""
    first = await qa.acall(question=question)
    return await qa.acall(question=first.answer)


async def abreast(question: str, times: int):
    """Asks several times at once."""
    answers = await asyncio.gather(*[qa.acall(question=f"{question} {n}") for n in range(times)])
    return {"answers": [answer.answer for answer in answers]}


async def forgives(question: str):
    """Answers also without the LM."""
    try:
        return await qa.acall(question=question)
    except Exception as error:
        return {"answer": type(error).__name__}


async def limits():
    """What the call knows of its limits."""
    deadline = tower_dspy.deadline()
    left = tower_dspy.remaining()
    in_thread = await asyncio.to_thread(tower_dspy.remaining)
    return {
        "deadline_in": None if deadline is None else deadline - time.monotonic(),
        "remaining": left,
        "in_thread": in_thread,
        "cancelled": tower_dspy.cancelled(),
    }


async def watches(key: str):
    """Notes whether it is cancelled, before and after."""
    note(key, f"cancelled: {tower_dspy.cancelled()}")
    try:
        await gate(key)
    finally:
        note(key, f"cancelled: {tower_dspy.cancelled()}")


async def blocks_a_thread(seconds: float):
    """Blocks a thread of the loop's executor."""
    await asyncio.to_thread(time.sleep, seconds)
    return {}


async def waits_in_a_thread(port: int):
    """Blocks a thread of the loop's executor until the test's listener writes or closes."""

    def wait() -> None:
        import socket

        from tower_dspy.interrupt import consume_signal_here

        # Else it might be stopped on its way into the wait, which is what the tests are about.
        consume_signal_here()
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.recv(1)

    await asyncio.to_thread(wait)
    return {}


async def blocks_the_loop(port: int, question: str = ""):
    """Blocks the loop, and leaves the GIL to the other threads."""
    import socket

    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.recv(1)
    return {}


async def holds_the_gil(port: int, question: str = ""):
    from witness import hold_gil

    hold_gil(port)
    return {}


async def prompts_in_its_error(question: str):
    """Fails with all that it was asked, also in a task that nobody awaits."""

    async def fails():
        raise ValueError(f"failed on {question}")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    del task
    raise ValueError(f"cannot answer {question}")
