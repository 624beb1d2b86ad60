"""Embedders and retrieval, in Python and over HTTP."""

import dspy

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-embed", api_base="http://lm.test/v1"))

CORPUS = ["Paris is in France.", "Rome is in Italy.", "Bern is in Switzerland."]


def embedder(model="openai/text-embedding-3-small", **options) -> dspy.Embedder:
    options = {"api_key": "sk-vectors", "api_base": "http://lm.test/v1", **options}
    return dspy.Embedder(model, caching=False, **options)


class Embeds(dspy.Module):
    def __init__(self, embed):
        super().__init__()
        self.embed = embed

    def forward(self, texts: list[str]):
        return dspy.Prediction(vectors=self.embed(texts).tolist())

    async def aforward(self, texts: list[str]):
        return dspy.Prediction(vectors=(await self.embed.acall(texts)).tolist())


embeds = Embeds(embedder())
embeds_in_batches = Embeds(embedder(batch_size=2))
embeds_dimensions = Embeds(embedder(dimensions=3))
embeds_mistral = Embeds(embedder("mistral/mistral-embed"))
embeds_ollama = Embeds(embedder("ollama/nomic-embed-text", api_base="http://lm.test"))
embeds_azure = Embeds(embedder("azure/ada", api_base="http://lm.test", api_version="2024-10-21"))


class Retrieves(dspy.Module):
    """Retrieval by embeddings in front of a predictor."""

    def __init__(self):
        super().__init__()
        self.respond = dspy.ChainOfThought("context, question -> response")

    def forward(self, question: str):
        search = dspy.retrievers.Embeddings(corpus=CORPUS, embedder=embedder(), k=2)
        return self.respond(context=search(question).passages, question=question)


def letters(texts: list[str]):
    """Vectors with no LM: how often some letters occur."""
    import numpy

    return numpy.array([[text.lower().count(letter) for letter in "aeiou"] for text in texts])


TRAINSET = [
    dspy.Example(question=question, answer=answer).with_inputs("question")
    for question, answer in (("one?", "1"), ("two?", "2"), ("three?", "3"))
]


class NearestShots(dspy.Module):
    """A predictor with the nearest examples of a set as its demonstrations."""

    def __init__(self):
        super().__init__()
        self.knn = dspy.KNN(k=2, trainset=TRAINSET, vectorizer=dspy.Embedder(letters))
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return self.predict(question=question, demos=self.knn(question=question))
