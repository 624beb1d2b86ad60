"""Runs an example of a server: asks it, ends it by SIGTERM, and reads its report.

Run: python3 .ci/serve_example.py target/debug/examples/axum_server

So for the examples `axum_server`, `otel` and `workers`. What `otel` exports is lost without a
collector: the tests have one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def get(url: str, body: object = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def describes_programs(url: str) -> None:
    _, document = get(f"{url}/openapi.json")
    assert list(json.loads(document)["paths"]) == ["/qa"], document


def replaces_stuck_worker(url: str) -> None:
    status, problem = get(f"{url}/stuck", {})
    assert status == 504, problem
    assert json.loads(problem)["kind"] == "deadline", problem
    began = time.monotonic()
    again, end = began + 5, began + 60
    while not re.search(r"killed: [1-9]", workers := get(f"{url}/workers")[1]):
        assert time.monotonic() < end, workers
        if time.monotonic() > again:
            # On a busy machine the limit may pass before a worker has begun the call.
            get(f"{url}/stuck", {})
            again = time.monotonic() + 5
        time.sleep(0.05)


# What is asked of each, and the report of its end.
CHECKS = {
    "axum_server": (describes_programs, "2 calls: 2 completed"),
    "otel": (lambda url: None, "1 call: 1 completed"),
    "workers": (replaces_stuck_worker, r"\d+ calls: \d+ completed"),
}


def main() -> None:
    check, expected = CHECKS[Path(sys.argv[1]).name]
    env = os.environ | {"ADDRESS": "127.0.0.1:0"}
    with subprocess.Popen(sys.argv[1:], env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(line.strip() for line in server.stderr if line.startswith("http://"))
            status, answer = get(f"{url}/qa", {"question": "Why is the sky blue?"})
            assert status == 200 and "Rayleigh" in json.loads(answer)["outputs"]["answer"], answer
            check(url)
            server.terminate()
            said = server.stderr.read()
            assert server.wait(60) == 0, said
        finally:
            server.kill()
    report = said.strip().splitlines()[-1]
    assert re.match(expected, report), said
    print(report)


if __name__ == "__main__":
    main()
