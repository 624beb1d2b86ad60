"""Runs the example that streams to a browser: its page in Chromium, its routes by real clients.

Run: CHROMIUM=/usr/bin/chromium python3 .ci/stream_example.py target/debug/examples/stream_server

The interpreter has `openai`. Pictures of the page are put into target/stream_page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from stream_clients import ROOT, node_modules, run_clients

PICTURES = ROOT / "target" / "stream_page"
LIMIT = 60
# What page.mjs asks, in its order: the answer as JSON and on the page; stopped twice, and once by
# its time limit; twice whole and by its limit, for the pictures.
WHOLE, LEFT = "Answered", "ClientGone"
SEEN_BY_LM = [WHOLE, WHOLE, LEFT, LEFT, LEFT, WHOLE, LEFT, WHOLE, LEFT]
LM_CALL = re.compile(r"LM call \d+: (\w+) after (\d+) tokens")


class Log:
    """The lines that a server has written so far."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.read, args=(stream,), daemon=True)
        self.reader.start()

    def read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.append(line.strip())

    def lm_calls(self) -> list[tuple[str, int]]:
        found = map(LM_CALL.fullmatch, list(self.lines))
        return [(match[1], int(match[2])) for match in found if match]

    def __str__(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def serving(*command: str) -> Iterator[tuple[str, Log]]:
    """A server's URL and log; it ends well."""
    env = os.environ | {"ADDRESS": "127.0.0.1:0"}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as server:
        log = Log(server.stderr)
        try:
            # The first start makes a venv.
            end = time.monotonic() + 10 * LIMIT
            while not (urls := [line for line in log.lines if line.startswith("http://")]):
                assert server.poll() is None and time.monotonic() < end, log
                time.sleep(0.05)
            yield urls[0], log
            server.terminate()
            assert server.wait(LIMIT) == 0, log
        finally:
            server.kill()
        log.reader.join(LIMIT)


def look_at_page(url: str, *flags: str) -> None:
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
    command = ["node", node_modules() / "page.mjs", chromium, url, PICTURES, *flags]
    subprocess.run(command, check=True, timeout=10 * LIMIT)


def main() -> None:
    server = sys.argv[1]
    PICTURES.mkdir(parents=True, exist_ok=True)
    with serving(server) as (url, log):
        look_at_page(url)
        end = time.monotonic() + LIMIT
        while len(log.lm_calls()) < len(SEEN_BY_LM) and time.monotonic() < end:
            time.sleep(0.05)
        outcomes, tokens = zip(*log.lm_calls(), strict=True)
        assert list(outcomes) == SEEN_BY_LM, log
        wrote = {outcome: [] for outcome in SEEN_BY_LM}
        for outcome, count in log.lm_calls():
            wrote[outcome].append(count)
        assert max(wrote[LEFT]) < min(wrote[WHOLE]), log
        print(f"The LM's connection was closed after {wrote[LEFT]} of {tokens[0]} tokens")
        run_clients(url, "Why is the sky blue?", scripted=False)
    print(log.lines[-1])
    # The discard port: nothing listens there.
    with serving(server, "--lm", "openai/nobody", "--base-url", "http://127.0.0.1:9/v1") as (
        url,
        _,
    ):
        look_at_page(url, "--refused")


if __name__ == "__main__":
    main()
