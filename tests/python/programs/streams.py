"""Programs whose answers are read as they are written."""

import asyncio

import dspy

import tower_dspy
import witness


class Twice(dspy.Module):
    """Two LM calls of one predictor at once; the first one's answer is the program's."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        calls = (self.ask.acall(question=f"{question} {name}") for name in ("one", "two"))
        first, _ = await asyncio.gather(*calls)
        return first


class Sync(dspy.Module):
    """A program on a thread."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str):
        tower_dspy.status("asking")
        return self.ask(question=question)


class Drafts(dspy.Module):
    """A draft, which is not an output, and the answer, which is not what the LM wrote."""

    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("question -> draft")
        self.final = dspy.Predict("question, draft -> answer")

    async def aforward(self, question: str):
        draft = (await self.draft.acall(question=question)).draft
        answer = await self.final.acall(question=question, draft=draft)
        return dspy.Prediction(answer=answer.answer.upper())


class Parallel(dspy.Module):
    """Three LM calls on DSPy's threads; the first one's answer is the program's."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        examples = (
            dspy.Example(question=f"{question} {name}").with_inputs("question")
            for name in ("one", "two", "three")
        )
        parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True)
        first, *_ = parallel([(self.ask, example) for example in examples])
        return first


def look_up(word: str) -> str:
    """Looks a word up."""
    if word == "unknown":
        raise LookupError("no such word")
    return f"{word} is blue"


async def look_up_later(word: str) -> dict:
    """Looks a word up."""
    await asyncio.sleep(0)
    return {"word": word, "colour": "blue"}


class Agent(dspy.Module):
    """An agent with a tool in Python, async."""

    tool = staticmethod(look_up_later)

    def __init__(self):
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=[self.tool])

    async def aforward(self, question: str):
        return await self.react.acall(question=question)


class SyncAgent(dspy.Module):
    """The same on a thread."""

    def __init__(self):
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=[look_up])

    def forward(self, question: str):
        return self.react(question=question)


class RustAgent(dspy.Module):
    """An agent with a tool in Rust."""

    def __init__(self):
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=tower_dspy.tools("search"))

    async def aforward(self, question: str):
        return await self.react.acall(question=question)


class Nested(dspy.Module):
    """A program in a program."""

    def __init__(self):
        super().__init__()
        self.inner = Sync()

    async def aforward(self, question: str):
        return await asyncio.to_thread(self.inner, question=question)


class InFormat(dspy.Module):
    """Asks with the adapter that its caller names."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer, count: int")

    async def aforward(self, question: str, adapter: str):
        with dspy.context(adapter=getattr(dspy, adapter)()):
            return await self.ask.acall(question=question)


class Best(dspy.Module):
    """The best of three answers: the one that is longest."""

    def __init__(self):
        super().__init__()
        ask = dspy.Predict("question -> answer")
        self.best = dspy.BestOfN(
            ask, N=3, reward_fn=lambda _, answer: float(len(answer.answer)), threshold=100.0
        )

    def forward(self, question: str):
        return self.best(question=question)


class Quiet(dspy.Module):
    """Asks what is not an output, and answers what no LM wrote."""

    def __init__(self):
        super().__init__()
        self.count = dspy.Predict("question -> count: int")

    async def aforward(self, question: str):
        count = (await self.count.acall(question=question)).count
        return dspy.Prediction(answer=str(count))


class Several(dspy.Module):
    """Asks for several answers at once, and takes the first."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer", n=2)

    async def aforward(self, question: str):
        return await self.ask.acall(question=question)


class Raises(dspy.Module):
    """Fails while its LM writes, once the test opens the gate."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, key: str, question: str):
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(self.ask.acall(question=question))
            group.create_task(self._fail(key))
        return answer.result()

    async def _fail(self, key: str):
        await witness.gate(key)
        raise LookupError("nothing of use")


class RaisesAfter(dspy.Module):
    """Fails after its LM has written."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        self.ask(question=question)
        raise LookupError("nothing of use")


class Swallows(dspy.Module):
    """Goes on when it is cancelled, as long as it can."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        for _ in range(3):
            try:
                return await self.ask.acall(question=question)
            except BaseException:
                tower_dspy.status("going on")
        return dspy.Prediction(answer="nevertheless")


class SwallowsOnThread(dspy.Module):
    """The same on a thread."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        for _ in range(3):
            try:
                return self.ask(question=question)
            except BaseException:
                tower_dspy.status("going on")
        return dspy.Prediction(answer="nevertheless")


class OwnLoop(dspy.Module):
    """Asks in an event loop of its own, on a thread."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return asyncio.run(self.ask.acall(question=question))


class Lines(dspy.Adapter):
    """An adapter that the host does not know: the answer is the text as it stands."""

    def format(self, signature, demos, inputs):
        return [{"role": "user", "content": inputs["question"]}]

    def parse(self, signature, completion):
        return {"answer": completion.upper()}


class OwnAdapter(dspy.Module):
    """Asks with such an adapter."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        with dspy.context(adapter=Lines()):
            return await self.ask.acall(question=question)


class Odd:
    """No JSON."""

    def __str__(self) -> str:
        return "an odd one"


def odd(word: str):
    """Returns what is no JSON."""
    return Odd() if word == "odd" else {"nan": float("nan"), "big": 2**80}


class OddAgent(dspy.Module):
    """An agent with that tool."""

    def __init__(self):
        super().__init__()
        self.react = dspy.ReAct("question -> answer", tools=[odd])

    async def aforward(self, question: str):
        answer = await self.react.acall(question=question)
        # Without the trajectory.
        return dspy.Prediction(answer=answer.answer)


class Reports(dspy.Module):
    """Reports what it does, often, and asks in between."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        for number in range(2_000):
            tower_dspy.status(f"step {number}")
        answer = await self.ask.acall(question=question)
        tower_dspy.status("\ud83d done")
        return answer


class Talks(dspy.Module):
    """Twenty LM calls with a long status before each."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        for _ in range(20):
            tower_dspy.status("x" * 20_000)
            answer = await self.ask.acall(question=question)
        return answer


class TalksOnThread(dspy.Module):
    """The same on a thread."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        for _ in range(20):
            tower_dspy.status("x" * 20_000)
            answer = self.ask(question=question)
        return answer


class Leaves(dspy.Module):
    """Leaves an LM call behind that goes on when the answer is there."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str, key: str):
        answer = await self.ask.acall(question=question)
        _left.append(asyncio.ensure_future(self.ask.acall(question="left behind")))
        await witness.gate(key)
        return answer


_left: list = []


class Blocks(dspy.Module):
    """Holds the GIL after its LM has answered."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str, port: int):
        answer = await self.ask.acall(question=question)
        # A worker sends what it has at the end of a turn of its loop.
        await asyncio.sleep(0.01)
        witness.hold_gil(port)
        return answer


class TwoSteps(dspy.Module):
    """Asks with an adapter that has a second LM call read the answer of the first."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        with dspy.context(adapter=dspy.TwoStepAdapter(dspy.settings.lm)):
            return await self.ask.acall(question=question)


class Refined(dspy.Module):
    """An answer that is refined until it is long enough."""

    def __init__(self):
        super().__init__()
        self.refine = dspy.Refine(
            dspy.Predict("question -> answer"),
            N=2,
            reward_fn=lambda _, answer: float(len(answer.answer)),
            threshold=5.0,
        )

    def forward(self, question: str):
        return self.refine(question=question)
