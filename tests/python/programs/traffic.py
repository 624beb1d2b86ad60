"""Programs that reach their LM in every way that DSPy has, and meet its failures in every way."""

from __future__ import annotations

import asyncio
import gc
import sys

import dspy

_SIGNATURE = "question -> answer"
_qa = dspy.Predict(_SIGNATURE)


class Steps(dspy.Module):
    """Three calls, each of what the one before said."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict(_SIGNATURE)
        self.second = dspy.ChainOfThought(_SIGNATURE)
        self.third = dspy.Predict(_SIGNATURE)

    async def aforward(self, question: str):
        for step in (self.first, self.second, self.third):
            question = (await step.acall(question=question)).answer
        return dspy.Prediction(answer=question)

    def forward(self, question: str):
        for step in (self.first, self.second, self.third):
            question = step(question=question).answer
        return dspy.Prediction(answer=question)


def look_up(word: str) -> str:
    """Looks a word up."""
    return f"{word} is a word"


async def look_up_async(word: str) -> str:
    """Looks a word up, elsewhere."""
    await asyncio.sleep(0)
    return look_up(word)


def ask_on(word: str) -> str:
    """A tool that asks the LM itself, and holds the loop up meanwhile."""
    return _qa(question=word).answer


def predict() -> dspy.Module:
    return dspy.Predict(_SIGNATURE)


def chain_of_thought() -> dspy.Module:
    return dspy.ChainOfThought(_SIGNATURE)


def react_with_a_sync_tool() -> dspy.Module:
    return dspy.ReAct(_SIGNATURE, tools=[look_up], max_iters=3)


def react_with_an_async_tool() -> dspy.Module:
    return dspy.ReAct(_SIGNATURE, tools=[look_up_async], max_iters=3)


def react_with_a_tool_that_asks() -> dspy.Module:
    return dspy.ReAct(_SIGNATURE, tools=[ask_on], max_iters=3)


_sync = {
    "predict": predict(),
    "chain_of_thought": chain_of_thought(),
    "steps": Steps(),
    "react": dspy.ReAct(_SIGNATURE, tools=[look_up], max_iters=3),
}


async def sync_predict(question: str):
    return await asyncio.to_thread(_sync["predict"], question=question)


async def sync_chain_of_thought(question: str):
    return await dspy.asyncify(_sync["chain_of_thought"])(question=question)


async def sync_steps(question: str):
    return await asyncio.to_thread(_sync["steps"], question=question)


async def sync_react(question: str):
    return await asyncio.to_thread(_sync["react"], question=question)


async def parallel(question: str):
    """Two calls on threads of DSPy's own, which makes None of a failure."""
    examples = [dspy.Example(question=f"{question} {n}").with_inputs("question") for n in range(2)]
    run = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    answers = await asyncio.to_thread(run, [(_qa, example) for example in examples])
    failed = [answer for answer in answers if answer is None]
    return {"answer": "failed" if failed else answers[0].answer}


async def catches_exceptions(question: str):
    """Asks again, whatever failed, and answers in any case."""
    for _ in range(2):
        try:
            return await _qa.acall(question=question)
        except Exception:
            continue
    return {"answer": "failed"}


async def catches_exceptions_on_a_thread(question: str):
    def work():
        for _ in range(2):
            try:
                return _qa(question=question)
            except Exception:
                continue
        return {"answer": "failed"}

    return await asyncio.to_thread(work)


async def catches_cancelled(question: str):
    """Takes its cancellation for a failure of the LM, and asks once more."""
    try:
        return await _qa.acall(question=question)
    except asyncio.CancelledError:
        return await _qa.acall(question=question)


async def footprint() -> dict[str, int]:
    """For the tests: what Python holds."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
    }
