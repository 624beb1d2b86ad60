"""Three LM calls, one after the other: on the loop, as a sync module, and by `asyncify`."""

import dspy

_qa = dspy.Predict("question -> answer")


async def on_the_loop(question: str):
    for _ in range(3):
        question = (await _qa.acall(question=question)).answer
    return {"answer": question}


def _three(question: str):
    for _ in range(3):
        question = _qa(question=question).answer
    return {"answer": question}


class Sync(dspy.Module):
    """Has no `aforward`, so the host runs it on a thread of its own."""

    def __init__(self):
        super().__init__()
        self.qa = _qa

    def forward(self, question: str):
        return dspy.Prediction(**_three(question))


async def by_asyncify(question: str):
    # A thread for each: with the default of 8 the others would wait for one.
    with dspy.context(async_max_workers=200):
        return await dspy.asyncify(_three)(question=question)
