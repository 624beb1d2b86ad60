"""Runs the example of a server: asks it, ends it by SIGTERM, and reads what it says of that.

Run: python3 .ci/serve_example.py target/debug/examples/axum_server
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request


def get(url: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main() -> None:
    env = os.environ | {"ADDRESS": "127.0.0.1:0"}
    with subprocess.Popen(sys.argv[1:], env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(line.strip() for line in server.stderr if line.startswith("http://"))
            answer = get(f"{url}/qa", {"question": "Why is the sky blue?"})
            assert answer["outputs"]["answer"] == "Rayleigh scattering", answer
            document = get(f"{url}/openapi.json")
            assert list(document["paths"]) == ["/qa"], document
            server.terminate()
            said = server.stderr.read()
            assert server.wait(60) == 0, said
        finally:
            server.kill()
    report = said.strip().splitlines()[-1]
    assert report.startswith("2 calls: 2 completed"), said
    print(report)


if __name__ == "__main__":
    main()
