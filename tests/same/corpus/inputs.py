"""Types of inputs: media, documents, conversations, pydantic models and Python's own."""

from datetime import date, datetime
from enum import Enum
from typing import Any, Literal

import dspy
from dspy.experimental import Document
from pydantic import BaseModel

KEY = "sk-typed"
dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key=KEY, api_base="http://lm.test/v1"))


class Describe(dspy.Signature):
    """Describe the image."""

    image: dspy.Image = dspy.InputField()
    text: str = dspy.OutputField()


class DescribeAll(dspy.Signature):
    images: list[dspy.Image] = dspy.InputField()
    labels: dict[str, dspy.Image] = dspy.InputField()
    text: str = dspy.OutputField()


class Transcribe(dspy.Signature):
    audio: dspy.Audio = dspy.InputField()
    text: str = dspy.OutputField()


class ReadFile(dspy.Signature):
    file: dspy.File = dspy.InputField()
    text: str = dspy.OutputField()


class WithSources(dspy.Signature):
    """Answer from the documents."""

    documents: list[Document] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Complexity(dspy.Signature):
    code: dspy.Code["python"] = dspy.InputField()  # noqa: F821
    result: str = dspy.OutputField()


class Chat(dspy.Signature):
    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str
    color: Color
    made: date
    parts: list["Item"] = []


class Rich(dspy.Signature):
    item: Item = dspy.InputField()
    items: dict[str, Item] = dspy.InputField()
    when: datetime = dspy.InputField()
    color: Color = dspy.InputField()
    size: Literal["S", "L"] = dspy.InputField()
    note: str | None = dspy.InputField()
    count: int | float = dspy.InputField()
    anything: Any = dspy.InputField()
    pairs: list[tuple[str, int]] = dspy.InputField()
    verdict: str = dspy.OutputField()


class Booking(BaseModel):
    model_config = {"strict": True}

    guest: str
    day: date
    color: Color
    nights: int


class Book(dspy.Signature):
    booking: Booking = dspy.InputField()
    verdict: str = dspy.OutputField()


class Passages(dspy.Signature):
    context: list[str] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Defaults(dspy.Signature):
    question: str = dspy.InputField()
    style: str = dspy.InputField(default="short")
    answer: str = dspy.OutputField()


class Conversation(dspy.Module):
    """A chat that adds each turn to its history."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict(Chat)

    def forward(self, questions: list[str]):
        history = dspy.History(messages=[])
        for question in questions:
            answer = self.predict(question=question, history=history)
            history.messages.append({"question": question, **answer})
        return dspy.Prediction(history=history.messages)


def typed(signature, model: str, **options) -> dspy.Predict:
    predict = dspy.Predict(signature)
    predict.set_lm(dspy.LM(model, api_key=KEY, api_base="http://lm.test/v1", **options))
    return predict


file_by_responses = typed(ReadFile, "openai/gpt-4o-mini", model_type="responses")
audio_by_litellm = typed(Transcribe, "openai/gpt-4o-audio-preview", engine="litellm")
image_by_responses = typed(Describe, "openai/gpt-4o-mini", model_type="responses")


def anthropic(signature) -> dspy.Predict:
    predict = dspy.Predict(signature)
    predict.set_lm(
        dspy.LM("anthropic/claude-sonnet-4-5", api_key=KEY, api_base="http://lm.test/v1")
    )
    return predict


def gemini(signature) -> dspy.Predict:
    predict = dspy.Predict(signature)
    predict.set_lm(
        dspy.LM("gemini/gemini-2.5-flash", api_key=KEY, api_base="http://lm.test/v1beta")
    )
    return predict


anthropic_image = anthropic(Describe)
anthropic_documents = anthropic(WithSources)
anthropic_file = anthropic(ReadFile)
gemini_image = gemini(Describe)
gemini_audio = gemini(Transcribe)
