"""The service before: the program behind FastAPI. Run: uvicorn migrated.main:app"""

import contextlib
import os
from typing import Annotated

import dspy
import fastapi
import pydantic
from fastapi.responses import StreamingResponse

from migrated.triage import Ticket, Triage


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI):
    lm = dspy.LM("openai/triage", api_base=os.environ["LM_URL"], api_key=os.environ["LM_KEY"])
    dspy.configure(lm=lm, async_max_workers=64)
    app.state.triage = dspy.asyncify(Triage())
    listener = dspy.streaming.StreamListener("reply")
    app.state.stream = dspy.streamify(Triage(), stream_listeners=[listener])
    yield


app = fastapi.FastAPI(lifespan=lifespan)


class TriageBody(pydantic.BaseModel):
    ticket: Ticket


class TriageAnswer(pydantic.BaseModel):
    team: str
    urgent: bool
    reply: str


def program(request: fastapi.Request):
    return request.app.state.triage


@app.post("/triage")
async def triage(
    body: TriageBody, program: Annotated[object, fastapi.Depends(program)]
) -> TriageAnswer:
    answer = await program(ticket=body.ticket)
    return TriageAnswer(team=answer.team, urgent=answer.urgent, reply=answer.reply)


@app.post("/triage/stream")
async def stream(request: fastapi.Request, body: TriageBody):
    events = dspy.streaming.streaming_response(request.app.state.stream(ticket=body.ticket))
    return StreamingResponse(events, media_type="text/event-stream")
