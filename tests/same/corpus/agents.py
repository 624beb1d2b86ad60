"""Agents: `dspy.ReAct` and native tool calls."""

from typing import Any

import dspy
from pydantic import BaseModel

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_key="sk-agent", api_base="http://lm.test/v1"))


def get_weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"The weather in {city} is sunny."


weather = dspy.ReAct("question -> answer", tools=[get_weather])


def evaluate_math(expression: str) -> float:
    """Evaluate a sum such as `1 + 2`."""
    return float(sum(int(part) for part in expression.split("+")))


def search_wikipedia(query: str, k: int = 3) -> list[str]:
    """Search passages."""
    return [f"passage {n} about {query}" for n in range(k)]


def broken(reason: str) -> str:
    """Fail."""
    raise ValueError(f"no, {reason}")


several = dspy.ReAct(
    "question -> answer: float", tools=[evaluate_math, search_wikipedia, broken], max_iters=4
)


async def fetch(url: str) -> str:
    """Fetch a page."""
    return f"<html>{url}</html>"


fetcher = dspy.ReAct("question -> answer", tools=[fetch])


class UserProfile(BaseModel):
    user_id: str
    name: str
    email: str


class Itinerary(BaseModel):
    confirmation_number: str
    user_profile: UserProfile
    stops: list[str]


USERS = {"Adam": UserProfile(user_id="1", name="Adam", email="adam@lm.test")}
BOOKED: dict[str, Itinerary] = {}


def get_user_info(name: str) -> UserProfile:
    """Fetch the user profile from the database with a given name."""
    return USERS[name]


def book_flight(stops: list[str], user_profile: UserProfile) -> str:
    """Book a flight on behalf of the user."""
    itinerary = Itinerary(
        confirmation_number=f"C{len(stops)}", user_profile=user_profile, stops=stops
    )
    BOOKED[itinerary.confirmation_number] = itinerary
    return itinerary.confirmation_number


def cancel_itinerary(confirmation_number: str) -> None:
    """Cancel an itinerary on behalf of the user."""
    del BOOKED[confirmation_number]


class AirlineService(dspy.Signature):
    """You are an airline customer service agent that helps users book and manage flights.

    You are given a list of tools to handle user requests, and you should decide the right tool to
    use in order to fulfill them."""

    user_request: str = dspy.InputField()
    process_result: str = dspy.OutputField(
        desc="Message that summarizes the process result, and the information users need"
    )


airline = dspy.ReAct(AirlineService, tools=[get_user_info, book_flight, cancel_itinerary])


class ChooseTools(dspy.Signature):
    """Signature for manual tool handling."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    outputs: dspy.ToolCalls = dspy.OutputField()


class ToolHandler(dspy.Module):
    """The loop that DSPy's guide to tools writes by hand."""

    def __init__(self):
        super().__init__()
        tools = [dspy.Tool(get_weather), dspy.Tool(evaluate_math)]
        self.tools = {tool.name: tool for tool in tools}
        self.choose = dspy.Predict(ChooseTools)

    def results(self, calls: dspy.ToolCalls) -> list[dict[str, Any]]:
        return [
            {"name": call.name, "result": self.tools[call.name](**call.args)}
            for call in calls.tool_calls
        ]

    def forward(self, question: str) -> dspy.Prediction:
        chosen = self.choose(question=question, tools=list(self.tools.values()))
        return dspy.Prediction(results=self.results(chosen.outputs))

    async def aforward(self, question: str) -> dspy.Prediction:
        chosen = await self.choose.acall(question=question, tools=list(self.tools.values()))
        return dspy.Prediction(results=self.results(chosen.outputs))


class NativeTools(ToolHandler):
    """The same, with the adapter told to use the LM's own tool calls."""

    def forward(self, question: str) -> dspy.Prediction:
        with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
            return super().forward(question)

    async def aforward(self, question: str) -> dspy.Prediction:
        with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
            return await super().aforward(question)


class JSONTools(ToolHandler):
    """The same with the JSON adapter, which uses them unasked."""

    def forward(self, question: str) -> dspy.Prediction:
        with dspy.context(adapter=dspy.JSONAdapter()):
            return super().forward(question)

    async def aforward(self, question: str) -> dspy.Prediction:
        with dspy.context(adapter=dspy.JSONAdapter()):
            return await super().aforward(question)


class MathAgent(dspy.Module):
    """An agent whose tool is another program."""

    def __init__(self):
        super().__init__()
        self.expert = dspy.ChainOfThought("problem -> solution")

        def ask_expert(problem: str) -> str:
            """Ask an expert."""
            return self.expert(problem=problem).solution

        self.react = dspy.ReAct("question -> answer", tools=[ask_expert], max_iters=3)

    def forward(self, question: str) -> dspy.Prediction:
        return self.react(question=question)
