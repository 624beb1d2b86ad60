"""Programs whose predictors bring LMs of their own."""

from __future__ import annotations

import dspy

import witness


def _own(model: str, **kwargs) -> dspy.LM:
    return dspy.LM(
        model, api_base=witness.lm_url, api_key="own-key", num_retries=3, cache=True, **kwargs
    )


class Own(dspy.Module):
    """Two predictors: one with an LM of its own, one with the host's."""

    def __init__(self, model: str = "openai/own-one") -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.first.lm = _own(model, temperature=0.25)
        self.second = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        await self.first.acall(question=question)
        return await self.second.acall(question=question)


def elsewhere() -> Own:
    """An LM of another provider."""
    return Own("anthropic/claude")


def foreign() -> Own:
    program = Own()
    program.first.lm = "a string"
    return program


class Plain(dspy.Module):
    """What states are loaded into."""

    def __init__(self) -> None:
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    async def aforward(self, question: str):
        return await self.qa.acall(question=question)


def by_litellm() -> Plain:
    """An LM that DSPy's own client does not speak to, of a program that is loaded without one."""
    program = Plain()
    program.qa.lm = _own("mistral/own-litellm")
    return program


instances: dict[str, Plain] = {}


def instance() -> Plain:
    """The same one each time, with an LM of its own."""
    if "one" not in instances:
        instances["one"] = Plain()
        instances["one"].qa.lm = _own("openai/own-instance")
    return instances["one"]


async def save(path: str, lm: str | None = None) -> None:
    """For the tests: saves a state of `Plain` with a demo, and with an LM if one is named."""
    program = Plain()
    program.qa.demos = [
        dspy.Example(question="a demo", answer="its answer").with_inputs("question")
    ]
    if lm is not None:
        program.qa.lm = _own(lm)
    program.save(path)
