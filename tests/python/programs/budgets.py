"""Programs that ask an LM until their budget is used up."""

from __future__ import annotations

import asyncio
import contextlib

import dspy
from dspy.utils.exceptions import LMError

import tower_dspy
import witness

qa = dspy.Predict("question -> answer")


class Drafts(dspy.Module):
    """Asks again and again, and leaves each answer as a draft."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        for n in range(10):
            answer = await self.qa.acall(question=f"{question} {n}")
            tower_dspy.partial(answer=answer.answer)
        return answer


class SyncDrafts(dspy.Module):
    """The same, on a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    def forward(self, question: str):
        for n in range(10):
            answer = self.qa(question=f"{question} {n}")
            tower_dspy.partial(answer=answer.answer)
        return answer


async def gathered(question: str):
    """Asks eight times at once, and answers with what came and what failed."""
    asked = [qa.acall(question=f"{question} {n}") for n in range(8)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, Exception)]
    return {"answered": 8 - len(failed), "refused": len(failed)}


class InParallel(SyncDrafts):
    """The same, on DSPy's threads."""

    def forward(self, question: str):
        run = dspy.Parallel(num_threads=4, max_errors=8, disable_progress_bar=True)
        answers = run([(self.qa, {"question": f"{question} {n}"}) for n in range(8)])
        refused = sum(answer is None for answer in answers)
        return {"answered": 8 - refused, "refused": refused}


def by_litellm() -> Drafts:
    """An LM that DSPy's own client does not speak to."""
    program = Drafts()
    program.qa.lm = dspy.LM("mistral/over-litellm", api_base=witness.lm_url, api_key="own-key")
    return program


async def answers_anyway(question: str):
    """Answers with what it has, once an LM call is refused."""
    steps = []
    try:
        for n in range(10):
            steps.append((await qa.acall(question=f"{question} {n}")).answer)
    except LMError as error:
        left = tower_dspy.remaining_budget()
        return {"answer": steps[-1], "failure": type(error).__name__, "left": left}


async def wraps_up(question: str):
    """Comes to an end when it is asked to."""
    steps = 0
    while not tower_dspy.remaining_budget().wrap_up:
        await qa.acall(question=question)
        steps += 1
    return {"steps": steps, "left": tower_dspy.remaining_budget()}


async def reads():
    """What is left before and after an LM call, here and on a thread."""
    before = tower_dspy.remaining_budget()
    await qa.acall(question="?")
    after = tower_dspy.remaining_budget()
    return {
        "before": before,
        "after": after,
        "on_a_thread": await asyncio.to_thread(tower_dspy.remaining_budget),
        "named": None if after is None else after._asdict(),
    }


async def cuts_off(question: str):
    """What is left once an LM call that is cut off has shown."""
    while True:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(qa.acall(question=question), 1.0)
        for _ in range(500):
            left = tower_dspy.remaining_budget()
            if left.wrap_up:
                return {"left": left}
            await asyncio.sleep(0.01)


async def asks_of_no_call(question: str):
    """Asks an LM by code that belongs to no call."""
    from tower_dspy.call_state import run_outside_calls

    lm = dspy.settings.lm

    def ask():
        with dspy.context(lm=lm):
            return qa(question=question)

    answer = await asyncio.get_running_loop().run_in_executor(None, run_outside_calls, ask)
    return {"answer": answer.answer}
