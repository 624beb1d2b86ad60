"""The fields of a streamed LM call, by the adapter that parses its answer."""

import json

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.types.decision import Noul
from streamed import StreamCall, StreamHost, as_chat, load, pieces, predict

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("dspy_settings")]

FIELDS = [["answer", True, True], ["count", False, False]]
VALUES = {"answer": "four", "count": "4"}
OUTPUTS = {"answer": "four", "count": 4}
AS_JSON = json.dumps(OUTPUTS)
AS_XML = "<answer>four</answer>\n<count>4</count>"


class Quoting(dspy.ChatAdapter):
    """An adapter with a format of its own."""

    def parse(self, signature, completion):
        return {"answer": completion.strip('"'), "count": 4}


class Polite(dspy.ChatAdapter):
    """An adapter that parses as the one that it is derived from."""

    def format_task_description(self, signature):
        return f"Please: {super().format_task_description(signature)}"


class Counts(dspy.Module):
    """A program whose predictor has the adapter `ADAPTER`."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer, count: int")

    async def aforward(self, question: str):
        with dspy.context(adapter=ADAPTERS[question]):
            return await self.ask.acall(question=question)


class CountsInSync(Counts):
    def forward(self, question: str):
        with dspy.context(adapter=ADAPTERS[question]):
            return self.ask(question=question)

    aforward = None


del CountsInSync.aforward

ADAPTERS = {
    "chat": dspy.ChatAdapter(),
    "json": dspy.JSONAdapter(),
    "xml": dspy.XMLAdapter(),
    "baml": BAMLAdapter(),
    "polite": Polite(),
    "quoting": Quoting(),
}


@pytest.mark.parametrize("target", ["Counts", "CountsInSync"])
@pytest.mark.parametrize(
    ("adapter", "text_format", "text"),
    [
        ("chat", "chat", as_chat(**VALUES)),
        ("polite", "chat", as_chat(**VALUES)),
        ("json", "json", AS_JSON),
        ("baml", "json", AS_JSON),
        ("xml", "xml", AS_XML),
    ],
)
async def test_the_format_is_that_of_the_adapter_that_parses(target, adapter, text_format, text):
    StreamHost(pieces(text))
    call, answer = await predict(f"test_adapter_call:{target}", question=adapter)
    assert answer == OUTPUTS
    begin = {"predictor": "ask", "format": text_format, "fields": FIELDS}
    assert call.of("begin") == [begin]
    assert call.text(1) == text
    assert call.of("values") == [{"values": {"answer": "four"}}]


async def test_the_text_of_an_unknown_format_is_sent_as_it_is():
    StreamHost(pieces('"four"'))
    call, answer = await predict("test_adapter_call:Counts", question="quoting")
    assert answer == OUTPUTS
    assert call.of("begin") == [{"predictor": "ask", "format": "raw", "fields": []}]
    assert call.text(1) == '"four"'
    assert call.of("values") == [{"values": {}}]


@pytest.mark.parametrize("completed", [True, False])
async def test_the_fallback_of_an_adapter_is_an_lm_call_of_its_own(completed):
    texts = iter([as_chat(answer="four") if completed else "no field at all", AS_JSON])
    host = StreamHost(lambda _: pieces(next(texts)))
    call, answer = await predict("question -> answer, count: int")
    assert answer == OUTPUTS
    assert call.kinds(1) == ["begin", "text", "restart"]
    assert call.kinds(2) == ["begin", "text", "values"]
    assert [begin["format"] for begin in call.of("begin")] == ["chat", "json"]
    assert call.text(2) == AS_JSON
    assert host.streamed == [True, True]


@pytest.mark.parametrize("sync", [False, True])
async def test_of_two_steps_the_extraction_is_streamed(sync):
    host = StreamHost(
        lambda body: pieces(as_chat(**VALUES) if "four, so 4" in str(body) else "four, so 4")
    )
    adapter = dspy.TwoStepAdapter(extraction_model=load("question -> answer").settings["lm"])
    ADAPTERS["two steps"] = adapter
    target = "CountsInSync" if sync else "Counts"
    call, answer = await predict(f"test_adapter_call:{target}", question="two steps")
    assert answer == OUTPUTS
    assert host.streamed == [False, True]
    assert call.numbers("begin") == [1]
    assert call.of("begin") == [{"predictor": "ask", "format": "chat", "fields": FIELDS}]
    assert call.text(1) == as_chat(**VALUES)


async def test_reasoning_is_a_text_unless_the_model_returns_it_apart():
    class Reasons(dspy.Signature):
        question: str = dspy.InputField()
        why: dspy.Reasoning = dspy.OutputField()
        answer: str = dspy.OutputField()

    loaded = load("question -> answer")
    loaded.call = dspy.Predict(Reasons).acall
    StreamHost(pieces(as_chat(why="sum", answer="four")))
    call, answer = await predict(loaded, StreamCall(("self", "why"), ("Predict", "why")))
    assert answer == {"why": "sum", "answer": "four"}
    (begin,) = call.of("begin")
    assert begin["fields"] == [["why", True, True], ["answer", True, False]]
    assert call.of("values") == [{"values": {"why": "sum", "answer": "four"}}]


class Decides(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        signature = dspy.Signature("question -> answer").append(
            "sure", dspy.OutputField(desc="whether it is certain"), type_=Noul
        )
        self.ask = dspy.Predict(signature)

    async def aforward(self, question: str):
        return await self.ask.acall(question=question)


async def test_a_program_with_decisions_is_streamed():
    StreamHost(pieces(as_chat(answer="four", sure='{"noul": 0.75}')))
    call, answer = await predict("test_adapter_call:Decides")
    assert answer["answer"] == "four"
    (begin,) = call.of("begin")
    assert begin["fields"] == [["answer", True, True], ["sure", False, False]]
    assert call.of("values") == [{"values": {"answer": "four"}}]
