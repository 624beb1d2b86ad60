"""Programs that read what their LM calls cost and said."""

import dspy

lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-usage", api_base="http://lm.test/v1")
dspy.configure(lm=lm, track_usage=True)


class Usage(dspy.Module):
    """Usage of an inner module: DSPy gives it to the outermost alone."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str):
        prediction = self.predict(question=question)
        return dspy.Prediction(usage=prediction.get_lm_usage())

    async def aforward(self, question: str):
        prediction = await self.predict.acall(question=question)
        return dspy.Prediction(usage=prediction.get_lm_usage())


async def usage_of_call(question: str) -> dict:
    """Usage as a caller of a module reads it."""
    prediction = await dspy.ChainOfThought("question -> answer").acall(question=question)
    return {"answer": prediction.answer, "usage": prediction.get_lm_usage()}


class Tracked(dspy.Module):
    """Usage of a block of a program."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        from dspy.utils.usage_tracker import track_usage

        with track_usage() as tracker:
            await self.predict.acall(question=question)
            await self.predict.acall(question=question)
        return dspy.Prediction(usage=tracker.get_total_tokens())


class History(dspy.Module):
    """The last prompt and the number of calls, from the LM's history."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str):
        before = len(lm.history)
        self.predict(question=question)
        self.predict(question=question)
        last = lm.history[-1]
        return dspy.Prediction(
            calls=len(lm.history) - before,
            keys=sorted(last),
            prompt=last["messages"][-1]["content"],
            outputs=last["outputs"],
            usage=dict(last["usage"]),
            model=last["model"],
        )


class SettingsHistory(dspy.Module):
    """The same by the configured LM, in a context of the program's own."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        with dspy.context(disable_history=False, max_history_size=10):
            await self.predict.acall(question=question)
            return dspy.Prediction(last=dspy.settings.lm.history[-1]["outputs"])


class Traced(dspy.Module):
    """The trace of a call, as optimizers read it."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str):
        with dspy.context(trace=[]):
            self.predict(question=question)
            trace = dspy.settings.trace
            return dspy.Prediction(
                trace=[[dict(inputs), dict(outputs.items())] for _, inputs, outputs in trace]
            )


class Callback(dspy.utils.callback.BaseCallback):
    def __init__(self):
        self.seen = []

    def on_lm_start(self, call_id, instance, inputs):
        self.seen.append(f"start {instance.model}")

    def on_lm_end(self, call_id, outputs, exception=None):
        self.seen.append(f"end {type(exception).__name__}")


class CallsBack(dspy.Module):
    """A callback of the program's own."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        callback = Callback()
        with dspy.context(callbacks=[*dspy.settings.callbacks, callback]):
            await self.predict.acall(question=question)
        return dspy.Prediction(seen=callback.seen)
