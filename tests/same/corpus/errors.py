"""Failures of an LM, as they reach a program and its caller."""

import asyncio

import dspy

LM = {"api_key": "sk-fail", "api_base": "http://lm.test/v1", "num_retries": 0}
dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", **LM))

qa = dspy.Predict("question -> answer")


def asks(model: str, **options):
    """A factory of a predictor with an LM of its own."""

    def program() -> dspy.Predict:
        predict = dspy.Predict("question -> answer")
        predict.set_lm(dspy.LM(model, **{**LM, **options}))
        return predict

    return program


anthropic = asks("anthropic/claude-sonnet-4-5")
gemini = asks("gemini/gemini-2.5-flash")
responses = asks("openai/gpt-4.1-mini", model_type="responses")
litellm = asks("openai/gpt-4o-mini", engine="litellm")
mistral = asks("mistral/mistral-small-latest")
nobody = asks("openai/gpt-4o-mini", api_base="http://127.0.0.1:9/v1")
unknown_provider = asks("nowhere/model")
retrying = asks("openai/gpt-4o-mini", num_retries=1)


# The request has to be sent before they pass, on both sides.
short_timeout = asks("openai/gpt-4o-mini", timeout=1.5)
short_timeout_litellm = asks("openai/gpt-4o-mini", timeout=1.5, engine="litellm")
short_timeout_mistral = asks("mistral/mistral-small-latest", timeout=1.5)


class NotEnough(Exception):
    """A program's own exception."""


class Handles(dspy.Module):
    """A program that lives with a failure of its LM."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        try:
            return await self.predict.acall(question=question)
        except dspy.LMError as error:
            return dspy.Prediction(
                failed=type(error).__name__,
                status=error.status,
                retry_after=error.retry_after,
                code=error.code,
                provider_code=error.provider_code,
                request_id=error.request_id,
                provider=error.provider,
                model=error.model,
                message=str(error),
            )


class HandlesLitellm(Handles):
    def __init__(self):
        super().__init__()
        self.predict = litellm()


class Falls(dspy.Module):
    """A program with a second LM for when the first fails."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.second = dspy.LM("openai/gpt-4o", **LM)

    def forward(self, question: str):
        try:
            return self.predict(question=question)
        except dspy.LMError:
            with dspy.context(lm=self.second):
                return self.predict(question=question)


class Raises(dspy.Module):
    """A program that raises after an answer."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        answer = await self.predict.acall(question=question)
        raise NotEnough(f"not enough in {answer.answer}")


class Wraps(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str):
        try:
            return self.predict(question=question)
        except dspy.LMError as error:
            raise RuntimeError("the LM failed") from error


class Grouped(dspy.Module):
    """Two calls of a task group, which fail together."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self.predict.acall(question=question))


class Surrogate(dspy.Module):
    """A message that is no valid Unicode."""

    async def aforward(self, question: str):
        raise ValueError("half a pair: \ud83d")


class InParallel(dspy.Module):
    """One of three fails, which `dspy.Parallel` leaves out."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, questions: list[str]):
        parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True, provide_traceback=False)
        results = parallel([(self.predict, {"question": question}) for question in questions])
        return dspy.Prediction(answers=[result and result.answer for result in results])
