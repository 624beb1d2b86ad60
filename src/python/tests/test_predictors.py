"""The names of predictors, and the fields that a streamed call sends."""

import dspy
import pytest
from streamed import StreamCall, StreamHost, as_chat, load, pieces, predict

from tower_dspy.predictors import Predictors

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]


class Steps(dspy.Module):
    """A draft, whose text is no output of the program, and an answer to it."""

    def __init__(self) -> None:
        super().__init__()
        self.draft = dspy.Predict("question -> draft, score: int")
        self.check = dspy.Predict("draft -> score: int")
        self.final = dspy.ChainOfThought("draft -> answer, answers: list[str]")

    async def aforward(self, question: str) -> dspy.Prediction:
        draft = (await self.draft.acall(question=question)).draft
        await self.check.acall(draft=draft)
        final = await self.final.acall(draft=draft)
        return dspy.Prediction(answer=final.answer, draft=draft)


class Known(Steps):
    """A program whose outputs are known, by its signature."""

    signature = dspy.Signature("question -> answer, draft: list[str]")

    async def aforward(self, **inputs) -> dspy.Prediction:
        return await super().aforward(**inputs)


def step(body: dict) -> list[str]:
    fields = {"draft": "a draft", "score": "1", "reasoning": "so", "answer": "b", "answers": "[]"}
    asked = body["messages"][-1]["content"].rpartition("with the corresponding output fields")[2]
    return pieces(
        as_chat(**{name: text for name, text in fields.items() if f"## {name} #" in asked})
    )


async def test_a_program_is_described_with_its_predictors_and_their_text_fields():
    assert load("test_predictors:Steps").describe()["predictors"] == [
        {"name": "draft", "fields": ["draft"]},
        {"name": "check", "fields": []},
        {"name": "final.predict", "fields": ["reasoning", "answer"]},
    ]
    described = load("question -> answer").describe()
    assert described["predictors"] == [{"name": "self", "fields": ["answer"]}]
    assert "predictors" not in load("shapes:function").describe()


async def test_by_default_the_text_outputs_of_the_program_are_streamed():
    host = StreamHost(step)
    call, _ = await predict("test_predictors:Known")
    assert host.streamed == [False, False, True]
    fields = [["reasoning", True, False], ["answer", True, True], ["answers", False, False]]
    assert call.of("begin") == [{"predictor": "final.predict", "format": "chat", "fields": fields}]


async def test_all_text_fields_are_streamed_of_a_program_whose_outputs_are_not_known():
    host = StreamHost(step)
    call, _ = await predict("test_predictors:Steps")
    assert host.streamed == [True, False, True]
    assert [begin["predictor"] for begin in call.of("begin")] == ["draft", "final.predict"]


async def test_chosen_fields_alone_are_streamed():
    host = StreamHost(step)
    call, _ = await predict("test_predictors:Known", StreamCall(("draft", "draft")))
    assert host.streamed == [True, False, False]
    fields = [["draft", True, True], ["score", False, False]]
    assert call.of("begin") == [{"predictor": "draft", "format": "chat", "fields": fields}]
    # Those that were written otherwise: the text of a chosen field may not be the program's.
    assert call.of("unstreamed") == [{"fields": ["reasoning", "answer"]}]


class Best(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.best = dspy.BestOfN(
            dspy.ChainOfThought("question -> answer"),
            N=2,
            reward_fn=lambda _, answer: float(answer.answer == "two"),
            threshold=1.0,
        )

    def forward(self, question: str):
        return self.best(question=question)


async def test_the_copies_of_a_predictor_have_its_name():
    texts = iter(["one", "two"])
    host = StreamHost(lambda _: pieces(as_chat(reasoning="so", answer=next(texts))))
    call, answer = await predict(
        "test_predictors:Best", StreamCall(("best.module.predict", "answer"))
    )
    assert answer["answer"] == "two"
    assert host.streamed == [True, True]
    assert [begin["predictor"] for begin in call.of("begin")] == ["best.module.predict"] * 2


async def test_a_module_without_a_name_has_that_of_its_class():
    program = dspy.ChainOfThought("a -> b")
    predictors = Predictors(program)
    assert predictors.name(program.predict) == "predict"
    assert predictors.name(program.predict.deepcopy()) == "predict"
    assert predictors.name(dspy.Predict("a -> b")) == "Predict"
    assert predictors.name(program) == "ChainOfThought"
    assert Predictors(len).named == []


async def test_predictors_that_are_copies_of_one_keep_their_own_names():
    program = dspy.Module()
    program.steps = [dspy.Predict("a -> b")]
    program.steps.append(program.steps[0].deepcopy())
    predictors = Predictors(program)
    assert [predictors.name(step) for step in program.steps] == ["steps[0]", "steps[1]"]
