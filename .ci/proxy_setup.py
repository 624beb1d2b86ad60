"""Two servers, a proxy in front of them, as examples/proxies has it, and clients of the proxy."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import httpx

PROXIES = Path(__file__).resolve().parent.parent / "examples" / "proxies"
# How long a wait may take, in seconds.
LIMIT = 60
# How long a server may take to start, which may make its venv.
START = 300
NGINX_PATHS = [
    "/run/nginx.pid",
    "/var/log/nginx/error.log",
    "/var/log/nginx/access.log",
    "/etc/nginx/qa.crt",
    "/etc/nginx/qa.key",
]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


async def wait_for(what: str, found: Callable[[], Awaitable[object]]) -> None:
    end = time.monotonic() + LIMIT
    while not await found():
        assert time.monotonic() < end, f"not within {LIMIT} s: {what}"
        await asyncio.sleep(0.002)


class Server:
    """A process of the example, with its own scripted LM."""

    def __init__(self, binary: str, port: int) -> None:
        self.binary = binary
        self.address = f"127.0.0.1:{port}"
        self.process: asyncio.subprocess.Process | None = None
        self.client = httpx.AsyncClient(base_url=f"http://{self.address}", timeout=LIMIT)

    async def start(self) -> None:
        env = os.environ | {"ADDRESS": self.address}
        self.process = await asyncio.create_subprocess_exec(
            self.binary, env=env, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(START):
            async for line in self.process.stderr:
                if line.startswith(b"http://"):
                    return
        raise AssertionError("the server did not start")

    async def end(self) -> str:
        """Ends it by SIGTERM; returns its report."""
        self.process.send_signal(signal.SIGTERM)
        said = await asyncio.wait_for(self.process.stderr.read(), LIMIT)
        assert await self.process.wait() == 0, said
        return said.decode().strip().splitlines()[-1]

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            # `communicate` reads what a full pipe would hold back.
            await self.process.communicate()


class Servers:
    """Both, and what their LMs do and have seen."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers

    def addresses(self) -> list[str]:
        return [server.address for server in self.servers]

    async def script(self, behaviour: str) -> None:
        for server in self.servers:
            (await server.client.put(f"/lm/{behaviour}")).raise_for_status()

    async def count(self, what: str) -> int:
        counts = [(await server.client.get("/lm")).json() for server in self.servers]
        return sum(count[what] for count in counts)

    async def asked(self) -> None:
        async def found() -> bool:
            return await self.count("running") == 1

        await wait_for("the LM is asked", found)

    async def stopped(self, gone_before: int) -> float:
        """The milliseconds until the LM's connection was closed."""
        began = time.monotonic()

        async def found() -> bool:
            return await self.count("client_gone") == gone_before + 1

        await wait_for("the LM's connection is closed", found)
        assert await self.count("running") == 0
        return (time.monotonic() - began) * 1000


class Clients:
    """Makes clients of a proxy, which trust its certificate."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.certificate = certificate

    def http(self, version: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"https://localhost:{self.port}",
            http1=version == "HTTP/1.1",
            http2=version == "HTTP/2",
            verify=str(self.certificate),
            timeout=LIMIT,
        )

    def grpc(self) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.certificate.read_bytes())
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials)


def certificate(folder: Path) -> Path:
    """A certificate of localhost, and its key beside it."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", folder / "qa.key", "-out", folder / "qa.crt"]
    subprocess.run(command, check=True, capture_output=True)
    pair = (folder / "qa.crt").read_bytes() + (folder / "qa.key").read_bytes()
    (folder / "qa.pem").write_bytes(pair)
    return folder / "qa.crt"


def configured(name: str, folder: Path, replaced: dict[str, str]) -> Path:
    """The configuration with other ports and paths."""
    text = (PROXIES / name).read_text()
    for old, new in replaced.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return folder / name


def nginx(folder: Path, port: int, servers: dict[str, str]) -> list[str | Path]:
    paths = {name: str(folder / Path(name).name) for name in NGINX_PATHS}
    replaced = servers | paths | {"listen 443": f"listen 127.0.0.1:{port}"}
    file = configured("nginx.conf", folder, replaced)
    return ["nginx", "-e", "stderr", "-c", file, "-g", "daemon off;"]


def haproxy(folder: Path, port: int, servers: dict[str, str]) -> list[str | Path]:
    replaced = servers | {
        "/etc/haproxy/qa.pem": str(folder / "qa.pem"),
        "bind :443": f"bind 127.0.0.1:{port}",
    }
    return ["haproxy", "-db", "-f", configured("haproxy.cfg", folder, replaced)]


COMMANDS = {"nginx": nginx, "haproxy": haproxy}
