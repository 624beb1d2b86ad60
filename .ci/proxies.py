"""Debian's nginx and HAProxy in front of two servers, by the configurations of examples/proxies.

Run: python3 .ci/proxies.py target/debug/examples/proxies [nginx|haproxy]

The interpreter has httpx with HTTP/2, and grpcio. The configurations are run as they stand: only
ports and paths are other ones. Through each proxy, by HTTP/1.1, HTTP/2 and gRPC:

1. The time left that a client sends arrives, and bounds the call.
2. A client that leaves, before its answer or in a stream, has the LM's connection closed.
3. The first event of a stream arrives while the LM holds the rest back.
4. Both servers are restarted, one after the other, under load: no call fails.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
from google.protobuf.struct_pb2 import Struct
from proxy_setup import COMMANDS, LIMIT, Clients, Server, Servers, certificate, free_ports, wait_for

QUESTION = {"question": "Why is the sky blue?"}
ANSWER = "Rayleigh scattering"
JSON = {"accept": "application/json"}
EVENTS = {"accept": "text/event-stream"}
SERVICE = "/tower_dspy.v1.Predict"
VERSIONS = ["HTTP/1.1", "HTTP/2"]


def grpc_request() -> bytes:
    """A `PredictRequest` of the program `qa`."""
    inputs = Struct()
    inputs.update(QUESTION)
    encoded = inputs.SerializeToString()
    return b"\x0a\x02qa\x12" + bytes([len(encoded)]) + encoded


def predict(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryCall:
    return channel.unary_unary(f"{SERVICE}/Predict")(grpc_request(), timeout=LIMIT)


def predict_stream(channel: grpc.aio.Channel) -> grpc.aio.UnaryStreamCall:
    return channel.unary_stream(f"{SERVICE}/PredictStream")(grpc_request(), timeout=LIMIT)


@asynccontextmanager
async def events(client: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[tuple[str, dict]]]:
    """The name and the data of each event."""

    async def parsed(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict]]:
        name = ""
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    async with client.stream("POST", "/qa", json=QUESTION, headers=EVENTS) as response:
        assert response.status_code == 200, await response.aread()
        yield parsed(response.aiter_lines())


async def abandoned(call: asyncio.Task) -> None:
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def check_http(servers: Servers, clients: Clients, version: str) -> str:
    await servers.script("answer")
    async with clients.http(version) as client:
        answer = await client.post("/qa", json=QUESTION)
        assert answer.http_version == version, answer.http_version
        assert ANSWER in answer.json()["outputs"]["answer"], answer.text

        await servers.script("hang")
        gone = await servers.count("client_gone")
        began = time.monotonic()
        answer = await client.post("/qa", json=QUESTION, headers={"x-request-timeout": "3s"})
        took = time.monotonic() - began
        assert (answer.status_code, answer.json()["kind"]) == (504, "deadline"), answer.text
        assert 3 <= took < LIMIT / 2, took
        await servers.stopped(gone)

    figures = []
    for headers in (JSON, EVENTS):
        gone = await servers.count("client_gone")
        client = clients.http(version)
        call = asyncio.create_task(client.post("/qa", json=QUESTION, headers=headers))
        await servers.asked()
        await abandoned(call)
        await client.aclose()
        figures.append(await servers.stopped(gone))

    await servers.script("hold")
    async with clients.http(version) as client, events(client) as stream:
        names = [(await anext(stream))[0]]
        assert await servers.count("running") == 1, "the stream was held up until its end"
        await servers.script("open")
        names += [name async for name, _ in stream]
    assert names[0] == "text" and names[-1] == "done", names

    await servers.script("hold")
    gone = await servers.count("client_gone")
    async with clients.http(version) as client, events(client) as stream:
        await anext(stream)
    figures.append(await servers.stopped(gone))
    return f"LM closed {', '.join(f'{figure:.0f}' for figure in figures)} ms after the client left"


async def check_grpc(servers: Servers, clients: Clients) -> str:
    await servers.script("answer")
    async with clients.grpc() as channel:
        assert ANSWER.encode() in await predict(channel)

    # By hand: a client of gRPC ends the call by its own clock as well.
    await servers.script("hang")
    gone = await servers.count("client_gone")
    request = grpc_request()
    async with clients.http("HTTP/2") as client:
        answer = await client.post(
            f"{SERVICE}/Predict",
            content=b"\0" + len(request).to_bytes(4, "big") + request,
            headers={"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "3S"},
        )
        assert answer.headers["grpc-status"] == "4", answer.headers
        await servers.stopped(gone)

    figures = []
    # A reset of the call's stream alone: the connection is kept.
    async with clients.grpc() as channel:
        gone = await servers.count("client_gone")
        call = predict(channel)
        await servers.asked()
        call.cancel()
        figures.append(await servers.stopped(gone))

        await servers.script("hold")
        events = aiter(predict_stream(channel))
        first = await anext(events)
        assert b"answer" in first, first
        assert await servers.count("running") == 1, "the stream was held up until its end"
        await servers.script("open")
        rest = [event async for event in events]
        assert ANSWER.encode() in rest[-1], rest

        await servers.script("hold")
        gone = await servers.count("client_gone")
        call = predict_stream(channel)
        await anext(aiter(call))
        call.cancel()
        figures.append(await servers.stopped(gone))
    return f"LM closed {', '.join(f'{figure:.0f}' for figure in figures)} ms after the reset"


class Load:
    """Callers that ask one question after the other, each on a connection of its own."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.answers = 0
        self.errors: list[str] = []
        self.ends = False

    async def whole(self, version: str) -> None:
        async with self.clients.http(version) as client:
            # A proxy closes a connection after a thousand calls, which httpx does not bear.
            for _ in range(500):
                answer = await client.post("/qa", json=QUESTION)
                assert answer.status_code == 200, answer.text
                if self.counts():
                    return

    async def streamed(self, version: str) -> None:
        async with self.clients.http(version) as client:
            for _ in range(500):
                async with events(client) as stream:
                    names = [name async for name, _ in stream]
                assert names[-1] == "done", names
                if self.counts():
                    return

    async def grpc(self) -> None:
        async with self.clients.grpc() as channel:
            while True:
                assert ANSWER.encode() in await predict(channel)
                streamed = [event async for event in predict_stream(channel)]
                assert ANSWER.encode() in streamed[-1]
                if self.counts():
                    return

    def counts(self) -> bool:
        """Counts an answer; whether there are enough."""
        self.answers += 1
        return self.ends

    async def caller(self, ask: Callable[..., Awaitable[None]], *version: str) -> None:
        while not self.ends:
            try:
                await ask(*version)
            except Exception as error:
                self.errors.append(repr(error))

    def run(self) -> asyncio.Future:
        asked = [(ask, version) for ask in (self.whole, self.streamed) for version in VERSIONS]
        callers = [self.caller(ask, version) for ask, version in asked * 3]
        return asyncio.gather(*callers, *(self.caller(self.grpc) for _ in range(4)))


async def check_restart(servers: Servers, clients: Clients) -> str:
    await servers.script("answer")
    load = Load(clients)
    callers = load.run()
    reports = []
    for server in servers.servers:
        before = load.answers

        async def asked(before: int = before) -> bool:
            return load.answers > before + 200

        await wait_for("answers", asked)
        reports.append(await server.end())
        await server.start()

        async def is_asked(server: Server = server) -> bool:
            return (await server.client.get("/lm")).json()["requests"] > 0

        # The other one may only go when the proxy uses this one again.
        await wait_for("the proxy uses the server again", is_asked)
    load.ends = True
    await callers
    assert not load.errors, load.errors
    for report in reports:
        assert " 0 connections cut" in report, report
    return f"{load.answers} calls while both servers were restarted, and no error"


async def check(name: str, servers: Servers, folder: Path, port: int) -> None:
    here = dict(zip(("127.0.0.1:8081", "127.0.0.1:8082"), servers.addresses(), strict=True))
    clients = Clients(port, certificate(folder))
    proxy = subprocess.Popen(COMMANDS[name](folder, port, here))
    try:
        async with clients.http("HTTP/1.1") as client:

            async def answers() -> bool:
                assert proxy.poll() is None, f"{name} ended by itself"
                try:
                    return (await client.get("/livez")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_for(f"{name} answers", answers)
            assert (await client.get("/readyz")).status_code == 404
        for version in VERSIONS:
            print(f"{name}, {version}: {await check_http(servers, clients, version)}", flush=True)
        print(f"{name}, gRPC: {await check_grpc(servers, clients)}", flush=True)
        print(f"{name}: {await check_restart(servers, clients)}", flush=True)
    finally:
        proxy.terminate()
        proxy.wait(LIMIT)


async def main() -> None:
    binary, *names = sys.argv[1:]
    # A time limit of CI sends SIGTERM: the servers and the proxy are to end too.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    *ports, port = free_ports(3)
    servers = Servers([Server(binary, port) for port in ports])
    try:
        # The first makes the venv, if there is none.
        for server in servers.servers:
            await server.start()
        for name in names or COMMANDS:
            with tempfile.TemporaryDirectory() as folder:
                await check(name, servers, Path(folder), port)
    finally:
        for server in servers.servers:
            await server.kill()


if __name__ == "__main__":
    asyncio.run(main())
