"""Modules that call other modules: best of several, refinement, comparison, threads."""

import asyncio

import dspy

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-many", api_base="http://lm.test/v1"))

qa = dspy.ChainOfThought("question -> answer")


def one_word(args, pred) -> float:
    return 1.0 if len(pred.answer.split()) == 1 else 0.0


best_of_n = dspy.BestOfN(module=qa, N=3, reward_fn=one_word, threshold=1.0)
best_of_two = dspy.BestOfN(module=qa, N=2, reward_fn=one_word, threshold=1.0)
refine = dspy.Refine(module=qa, N=3, reward_fn=one_word, threshold=1.0)
program_of_thought = dspy.ProgramOfThought("question -> answer", max_iters=2)


class Compare(dspy.Module):
    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")
        self.compare = dspy.MultiChainComparison("question -> answer", M=2)

    def forward(self, question: str):
        chains = [
            self.think(question=question, config={"temperature": 0.5 + n / 10, "rollout_id": n})
            for n in range(2)
        ]
        return self.compare(chains, question=question)


class Majority(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer", temperature=0.7)

    def forward(self, question: str):
        answers = [self.predict(question=question, rollout_id=n) for n in range(3)]
        completions = [dict(answer.items()) for answer in answers]
        return dspy.majority(completions, field="answer")


several_completions = dspy.Predict("question -> answer", n=3, temperature=0.9)


class Completions(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str):
        prediction = self.predict(question=question, config={"n": 2, "temperature": 1.0})
        return dspy.Prediction(answers=prediction.completions.answer)


class InParallel(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True)

    def forward(self, questions: list[str]):
        pairs = [
            (self.predict, dspy.Example(question=question).with_inputs("question"))
            for question in questions
        ]
        return dspy.Prediction(answers=[result.answer for result in self.parallel(pairs)])


class Batch(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, questions: list[str]):
        examples = [dspy.Example(question=text).with_inputs("question") for text in questions]
        results = self.predict.batch(examples, num_threads=2, disable_progress_bar=True)
        return dspy.Prediction(answers=[result.answer for result in results])


class Gathered(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, questions: list[str]):
        calls = [self.predict.acall(question=question) for question in questions]
        return dspy.Prediction(answers=[result.answer for result in await asyncio.gather(*calls)])


class Asyncified(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        return await dspy.asyncify(self.predict)(question=question)


class Streamed(dspy.Module):
    """A program that streams: its last chunk is the prediction."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        last, texts = None, []
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        stream = dspy.streamify(self.predict, stream_listeners=[listener])
        async for chunk in stream(question=question):
            if isinstance(chunk, dspy.streaming.StreamResponse):
                texts.append(chunk.chunk)
            last = chunk
        return dspy.Prediction(answer=last.answer, streamed="".join(texts))


ensemble = dspy.teleprompt.Ensemble(reduce_fn=dspy.majority).compile(
    [dspy.Predict("question -> answer", temperature=n / 10) for n in range(3)]
)


class Ensembled(dspy.Module):
    """The majority of three programs."""

    def forward(self, question: str):
        return ensemble(question=question)


class BigPrompt(dspy.Module):
    """A prompt of a megabyte."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("context, question -> answer")

    def forward(self, question: str):
        return self.predict(context="word \u00e9 " * 150_000, question=question)

    async def aforward(self, question: str):
        return await self.predict.acall(context="word \u00e9 " * 150_000, question=question)
