"""LMs that a program makes and chooses itself."""

import asyncio

import dspy

CHEAP = {"api_key": "sk-cheap", "api_base": "http://lm.test/v1"}
dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", **CHEAP), adapter=dspy.JSONAdapter())


def smart() -> dspy.LM:
    return dspy.LM("openai/gpt-4o", api_key="sk-smart", api_base="http://lm.test/v1")


class MadeInside(dspy.Module):
    """An LM for each call, as where tenants bring their keys."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str, key: str = "sk-tenant"):
        lm = dspy.LM("openai/gpt-4o", api_key=key, api_base="http://lm.test/v1")
        with dspy.context(lm=lm):
            return self.predict(question=question)

    async def aforward(self, question: str, key: str = "sk-tenant"):
        lm = dspy.LM("openai/gpt-4o", api_key=key, api_base="http://lm.test/v1")
        with dspy.context(lm=lm):
            return await self.predict.acall(question=question)


class MadeInsideMistral(dspy.Module):
    """The same through litellm."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        lm = dspy.LM("mistral/mistral-large", api_key="sk-m", api_base="http://lm.test/v1")
        with dspy.context(lm=lm):
            return await self.predict.acall(question=question)


class PerPredictor(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("question -> draft")
        self.check = dspy.ChainOfThought("question, draft -> answer")
        self.check.set_lm(smart())

    def forward(self, question: str):
        draft = self.draft(question=question).draft
        return self.check(question=question, draft=draft)

    async def aforward(self, question: str):
        draft = (await self.draft.acall(question=question)).draft
        return await self.check.acall(question=question, draft=draft)


class PassedToCall(dspy.Module):
    """The LM as an argument of the call."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.lm = smart()

    async def aforward(self, question: str):
        return await self.predict.acall(question=question, lm=self.lm)


class Copied(dspy.Module):
    """The configured LM with other options."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        with dspy.context(lm=dspy.settings.lm.copy(temperature=0.9, max_tokens=20)):
            return await self.predict.acall(question=question)


class CalledDirectly(dspy.Module):
    """An LM that is called with no predictor."""

    def forward(self, question: str):
        return dspy.Prediction(texts=dspy.settings.lm(question))

    async def aforward(self, question: str):
        return dspy.Prediction(texts=await dspy.settings.lm.acall(question))


class CalledWithRequest(dspy.Module):
    """An LM that is called with lm15's own request."""

    async def aforward(self, question: str):
        request = dspy.lm15.Request(
            model="openai/gpt-4o-mini", messages=(dspy.lm15.Message.user(question),)
        )
        response = await dspy.settings.lm.acall(request)
        return dspy.Prediction(text=response.text, tokens=response.usage.input_tokens)


class FromThread(dspy.Module):
    """A sync predictor on a thread of asyncio's."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        return await asyncio.to_thread(self.predict, question=question)


configured_globally = dspy.Predict("question -> answer, count: int")
