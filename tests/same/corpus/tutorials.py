"""First programs, as DSPy's own pages have them."""

from typing import Literal

import dspy
from pydantic import BaseModel

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-first", api_base="http://lm.test/v1"))

qa = dspy.Predict("question -> answer")
math = dspy.ChainOfThought("question -> answer: float")


class Emotion(dspy.Signature):
    """Classify emotion."""

    sentence: str = dspy.InputField()
    sentiment: Literal["sadness", "joy", "love", "anger", "fear", "surprise"] = dspy.OutputField()


class CheckCitationFaithfulness(dspy.Signature):
    """Verify that the text is based on the provided context."""

    context: str = dspy.InputField(desc="facts here are assumed to be true")
    text: str = dspy.InputField()
    faithfulness: bool = dspy.OutputField()
    evidence: dict[str, list[str]] = dspy.OutputField(desc="Supporting evidence for claims")


faithfulness = dspy.ChainOfThought(CheckCitationFaithfulness)


class Person(BaseModel):
    name: str
    role: str | None = None
    tags: list[str] = []


class ExtractInfo(dspy.Signature):
    """Extract structured information from text."""

    text: str = dspy.InputField()
    title: str = dspy.OutputField()
    headings: list[str] = dspy.OutputField()
    people: list[Person] = dspy.OutputField(desc="the people and what they do")


extract = dspy.Predict(ExtractInfo)

PASSAGES = {
    "Paris is the capital of France.": {"paris", "france", "capital"},
    "Lyon lies where two rivers meet.": {"lyon", "rivers"},
    "The Seine runs through Paris.": {"seine", "paris", "rivers"},
}


def search(query: str, k: int = 2) -> list[str]:
    """The passages with the most words of the query."""
    words = set(query.lower().strip("?").split())
    return sorted(PASSAGES, key=lambda text: (-len(words & PASSAGES[text]), text))[:k]


class RAG(dspy.Module):
    def __init__(self):
        super().__init__()
        self.respond = dspy.ChainOfThought("context, question -> response")

    def forward(self, question):
        context = search(question)
        return self.respond(context=context, question=question)

    async def aforward(self, question):
        context = search(question)
        return await self.respond.acall(context=context, question=question)


class Hop(dspy.Module):
    """Retrieval in two hops, each with a query of its own."""

    def __init__(self, hops: int = 2):
        super().__init__()
        self.hops = hops
        self.generate_query = dspy.ChainOfThought("claim, notes -> query")
        self.append_notes = dspy.ChainOfThought(
            "claim, notes, context: list[str] -> new_notes: list[str], titles: list[str]"
        )

    def forward(self, claim: str) -> dspy.Prediction:
        notes, titles = [], []
        for _ in range(self.hops):
            query = self.generate_query(claim=claim, notes=notes).query
            context = search(query)
            prediction = self.append_notes(claim=claim, notes=notes, context=context)
            notes.extend(prediction.new_notes)
            titles.extend(prediction.titles)
        return dspy.Prediction(notes=notes, titles=titles)


class Outline(dspy.Signature):
    """Outline a thorough overview of a topic."""

    topic: str = dspy.InputField()
    title: str = dspy.OutputField()
    sections: list[str] = dspy.OutputField()
    section_subheadings: dict[str, list[str]] = dspy.OutputField(
        desc="mapping from section headings to subheadings"
    )


class DraftSection(dspy.Signature):
    """Draft a top-level section of an article."""

    topic: str = dspy.InputField()
    section_heading: str = dspy.InputField()
    section_subheadings: list[str] = dspy.InputField()
    content: str = dspy.OutputField(desc="markdown-formatted section")


class DraftArticle(dspy.Module):
    def __init__(self):
        super().__init__()
        self.build_outline = dspy.ChainOfThought(Outline)
        self.draft_section = dspy.ChainOfThought(DraftSection)

    def forward(self, topic):
        outline = self.build_outline(topic=topic)
        sections = []
        for heading, subheadings in outline.section_subheadings.items():
            section = self.draft_section(
                topic=outline.title,
                section_heading=f"## {heading}",
                section_subheadings=[f"### {subheading}" for subheading in subheadings],
            )
            sections.append(section.content)
        return dspy.Prediction(title=outline.title, sections=sections)


class Named(dspy.Signature):
    """Shorten the text."""

    text = dspy.InputField()
    short = dspy.OutputField(desc="at most ten words", prefix="In short:")


instructed = dspy.Predict(
    dspy.Signature("review: str -> stars: int, why: str", instructions="Rate the review.")
)

few_shot = dspy.Predict("question -> answer")
few_shot.demos = [
    dspy.Example(question="1+1?", answer="2").with_inputs("question"),
    dspy.Example(question="2+2?", answer="4").with_inputs("question"),
]
