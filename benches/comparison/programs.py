"""The programs that all ways run: one question, one LM call, with nothing in them about limits."""

import os

# No prices are fetched from elsewhere.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy


class Answer(dspy.Module):
    """Answers a question, on DSPy's async path."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.answer.acall(question=question)


class SyncAnswer(dspy.Module):
    """Answers a question, on DSPy's sync path."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.answer(question=question)


def lm(url: str, model: str) -> dspy.LM:
    """The LM, asked once for each question: no cache, no retry."""
    key = os.environ.get("LM_KEY", "none")
    return dspy.LM(f"openai/{model}", api_base=url, api_key=key, cache=False, num_retries=0)
