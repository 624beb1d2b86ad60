"""Three LM calls, one after the other: on the loop, and as a sync module on a thread."""

import dspy

_qa = dspy.Predict("question -> answer")


async def tasks(question: str):
    for _ in range(3):
        question = (await _qa.acall(question=question)).answer
    return {"answer": question}


def _three(question: str):
    for _ in range(3):
        question = _qa(question=question).answer
    return {"answer": question}


async def threads(question: str):
    # A thread for each: with the default of 8 the others would wait for one.
    with dspy.context(async_max_workers=200):
        return await dspy.asyncify(_three)(question=question)
