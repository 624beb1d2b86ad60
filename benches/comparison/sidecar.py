"""DSPy behind FastAPI, as a sidecar of a Rust service: `sidecar.py URL MODEL LIMIT`.

It prints its own address, and serves until its standard input ends. Each route is written in
another way.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading

import dspy
import programs
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

URL, MODEL, LIMIT = sys.argv[1], sys.argv[2], float(sys.argv[3])

# As FastAPI's pages have it: an object made once, routes that call it.
app = FastAPI()
answer = programs.Answer()
sync_answer = programs.SyncAnswer()


class Question(BaseModel):
    """The body of a request."""

    question: str


@app.post("/sync")
def sync_route(body: Question) -> dict[str, str]:
    """The plainest: FastAPI runs it in a thread of its pool."""
    return {"answer": sync_answer(question=body.question).answer}


@app.post("/async")
async def async_route(body: Question) -> dict[str, str]:
    """The same on the loop."""
    return {"answer": (await answer.acall(question=body.question)).answer}


@app.post("/timeout")
async def timeout_route(body: Question) -> dict[str, str]:
    """With a limit of its own, as Python's documentation sets one."""
    try:
        async with asyncio.timeout(LIMIT):
            return {"answer": (await answer.acall(question=body.question)).answer}
    except TimeoutError:
        raise HTTPException(504) from None


@app.post("/disconnect")
async def disconnect_route(request: Request, body: Question) -> dict[str, str]:
    """Looks whether its client is there, and cancels the work if it is not."""
    work = asyncio.create_task(answer.acall(question=body.question))
    try:
        while not work.done():
            if await request.is_disconnected():
                raise HTTPException(499)
            await asyncio.wait({work}, timeout=0.1)
        return {"answer": work.result().answer}
    finally:
        work.cancel()


def main() -> None:
    """Serves on a free port of loopback."""
    dspy.configure(lm=programs.lm(URL, MODEL))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)

    def stop() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=stop, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
