"""Sorts support tickets: the program of a service that was written for FastAPI."""

from typing import Literal

import dspy
import pydantic


class Ticket(pydantic.BaseModel):
    subject: str
    body: str
    priority: int = pydantic.Field(default=3, ge=1, le=5)


class Sort(dspy.Signature):
    """Choose the team that answers the ticket."""

    ticket: Ticket = dspy.InputField()
    team: Literal["billing", "technical", "sales"] = dspy.OutputField()
    urgent: bool = dspy.OutputField()


class Reply(dspy.Signature):
    """Write the first answer to the ticket."""

    ticket: Ticket = dspy.InputField()
    team: str = dspy.InputField()
    reply: str = dspy.OutputField()


class Triage(dspy.Module):
    def __init__(self):
        super().__init__()
        self.sort = dspy.Predict(Sort)
        self.reply = dspy.Predict(Reply)

    def forward(self, ticket: Ticket):
        sorted_as = self.sort(ticket=ticket)
        reply = self.reply(ticket=ticket, team=sorted_as.team)
        return dspy.Prediction(team=sorted_as.team, urgent=sorted_as.urgent, reply=reply.reply)
