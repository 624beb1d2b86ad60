"""Programs that go on asking, whatever happens, and that look at what they were given."""

import asyncio
import os

import dspy

from witness import gate

_qa = dspy.Predict("question -> answer")


async def retries_on_any_error(question: str):
    """What a careless program does: any failure is worth another LM call."""
    for _ in range(3):
        try:
            return await _qa.acall(question=question)
        except Exception:
            continue
    raise RuntimeError("no luck")


async def swallows_everything(question: str, times: int):
    """Not even a cancellation ends it; each turn asks again."""
    for _ in range(times):
        try:
            await _qa.acall(question=question)
        except BaseException:
            continue
    return {"answer": "done"}


async def asks_again_in_its_cleanup(question: str):
    try:
        return await _qa.acall(question=question)
    finally:
        await _qa.acall(question="and in the clean-up?")


async def asks_on_a_thread(question: str):
    """A sync module, as a sync tool or `dspy.asyncify` runs one."""
    return await dspy.asyncify(_qa)(question=question)


async def asks_in_parallel(question: str, times: int):
    """`dspy.Parallel` has threads of its own."""
    examples = [
        dspy.Example(question=f"{question} {n}").with_inputs("question") for n in range(times)
    ]
    parallel = dspy.Parallel(num_threads=times, disable_progress_bar=True)
    answers = await asyncio.to_thread(parallel, [(_qa, example) for example in examples])
    return {"answers": [answer.answer for answer in answers]}


async def looks_for_keys():
    """All that a program can see of its LM's connection."""
    lm = dspy.settings.lm
    await _qa.acall(question="What is the key?")
    (engine,) = lm._engine_store.values()
    return {
        "seen": [
            str(vars(lm)),
            str(lm.kwargs),
            str(lm.history),
            str(vars(engine)),
            str(engine.config.api_keys),
            *(str(provider.api_key) for provider in engine._providers.values()),
            str(dict(os.environ)) if "TEST_LEAK_ENV" in os.environ else "",
        ]
    }


async def streams(question: str):
    """The answer in pieces, through DSPy's own streaming."""
    stream = dspy.streamify(
        _qa,
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
        is_async_program=True,
    )
    pieces, answer = 0, None
    async for part in stream(question=question):
        if isinstance(part, dspy.Prediction):
            answer = part.answer
        else:
            pieces += 1
    return {"answer": answer, "pieces": pieces}


async def waits_for_its_child(question: str):
    """Its clean-up waits for a task that waits for the LM."""
    child = asyncio.create_task(_qa.acall(question=question))
    try:
        await asyncio.Event().wait()
    finally:
        await child


async def gives_up_on_a_thread(key: str, question: str):
    """Answers without the thread that goes on asking."""
    asking = asyncio.create_task(asyncio.to_thread(_qa, question=question))
    await gate(key)
    asking.cancel()
    return {"answer": "a guess"}


async def asks_on_a_loop_of_its_own(question: str):
    def ask():
        return asyncio.run(_qa.acall(question=question))

    return await asyncio.to_thread(ask)
