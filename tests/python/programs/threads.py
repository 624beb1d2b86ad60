"""Programs that make threads in every way there is."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
from anyio import to_thread

import tower_dspy
from witness import note, thread_gate


def wait(key: str) -> None:
    thread_gate(key).note_and_wait(key, "running")
    note(key, "waited")


def spin(key: str) -> None:
    try:
        note(key, "running")
        while True:
            pass
    finally:
        note(key, "cleaned")


async def in_anyio(function, *args):
    return await to_thread.run_sync(function, *args, abandon_on_cancel=True)


async def _begun(key: str) -> None:
    from witness import seen

    while not await seen(key):
        await asyncio.sleep(0.001)


async def leaves_anyio(key: str):
    asyncio.create_task(in_anyio(wait, key))  # noqa: RUF006
    await _begun(key)
    return {}


async def leaves_pool(key: str):
    ThreadPoolExecutor(1).submit(wait, key)
    await _begun(key)
    return {}


async def leaves_thread(key: str):
    threading.Thread(target=wait, args=(key,)).start()
    await _begun(key)
    return {}


async def busy_anyio(key: str):
    await in_anyio(spin, key)


async def busy_pool(key: str):
    await asyncio.wrap_future(ThreadPoolExecutor(1).submit(spin, key))


async def busy_thread(key: str):
    threading.Thread(target=spin, args=(key,)).start()
    await asyncio.Event().wait()


async def uses_anyio(key: str):
    return {"answer": await in_anyio(lambda: 7)}


async def uses_pool(key: str):
    with ThreadPoolExecutor() as pool:
        return {"answer": sum(pool.map(int, "1231"))}


async def uses_thread(key: str):
    answers = []
    thread = threading.Thread(target=answers.append, args=(7,))
    thread.start()
    thread.join()
    return {"answer": answers[0]}


async def asks_in_pools(key: str):
    """Whether the functions of pools know that they are part of a call."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        own = await loop.run_in_executor(pool, tower_dspy.remaining)
        default = await loop.run_in_executor(None, tower_dspy.remaining)
    return {"known": [own is not None, default is not None]}


async def starts_a_daemon(key: str):
    threading.Thread(target=wait, args=(key,), daemon=True).start()
    return {}


async def overfills_a_pool(key: str):
    pool = ThreadPoolExecutor(1)
    for _ in range(3):
        pool.submit(wait, key)
    pool.shutdown(wait=False, cancel_futures=True)
    await asyncio.Event().wait()


class _Swallows(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    def forward(self, key: str, question: str):
        try:
            return self.qa(question=question)
        except BaseException:
            note(key, "swallowed")
            thread_gate(key).wait(30)
            return dspy.Prediction(answer="")


async def leaves_a_parallel(key: str, question: str):
    """The threads of `dspy.Parallel` outlive their call."""
    asked = [(_Swallows(), {"key": key, "question": f"{question} {n}"}) for n in range(2)]
    parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    return {"answers": await asyncio.to_thread(parallel, asked)}
