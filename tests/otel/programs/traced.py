"""Programs with spans of their own and of an instrumentation, exported by OTLP."""

import dspy
from collector_address import ENDPOINT
from openinference.instrumentation.dspy import DSPyInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import tower_dspy

_provider = TracerProvider(resource=Resource.create({"service.name": "python"}))
_provider.add_span_processor(
    BatchSpanProcessor(OTLPSpanExporter(endpoint=ENDPOINT), schedule_delay_millis=20)
)
DSPyInstrumentor().instrument(tracer_provider=_provider)
_tracer = _provider.get_tracer("traced")


class Asks(dspy.Module):
    """Asks an LM within a span."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        with _tracer.start_as_current_span("step"):
            return await self.ask.acall(question=question)


class AsksInParallel(dspy.Module):
    """Asks an LM on two threads, each within a span."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        def part(number: int) -> str:
            with _tracer.start_as_current_span("part"):
                return self.ask(question=f"{question} {number}").answer

        with _tracer.start_as_current_span("all"):
            answers = dspy.Parallel(num_threads=2)([(part, (0,)), (part, (1,))])
        return dspy.Prediction(answer=" ".join(answers))


class UsesTool(dspy.Module):
    """Uses a tool of the host within a span."""

    async def aforward(self, question: str) -> dspy.Prediction:
        (search,) = tower_dspy.tools("search")
        with _tracer.start_as_current_span("step"):
            return dspy.Prediction(answer=await search.acall(query=question))


class UsesStuckTool(dspy.Module):
    """Uses a tool of the host that never answers, within a span."""

    async def aforward(self, question: str) -> dspy.Prediction:
        (stuck,) = tower_dspy.tools("stuck")
        # That of the API, `start_as_current_span`, takes no note of a cancel.
        with _tracer.start_span("step"):
            return dspy.Prediction(answer=await stuck.acall(query=question))


class Fails(dspy.Module):
    """Uses a tool of its own, which raises its argument."""

    async def aforward(self, question: str) -> dspy.Prediction:
        async def look_up(query: str) -> str:
            raise ValueError(query)

        return dspy.Prediction(answer=await dspy.Tool(look_up).acall(query=question))
