"""Real clients of the streams: curl, OpenAI's SDK for Python, Vercel's AI SDK for node.

Run: python3 .ci/stream_clients.py target/debug/examples/scripted_stream_server
     python3 .ci/stream_clients.py URL [QUESTION]

The interpreter has `openai`. A command is started and ended, as a server whose failures are
scripted; at a URL only answers are looked at. The routes are /qa, /api/chat and /v1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "tests" / "clients"


def node_modules() -> Path:
    """A folder with the client for node and what it needs, by the lock file with hashes."""
    folder = ROOT / "target" / "ci-node"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (CLIENTS / "package-lock.json").read_bytes()
    stamp = folder / "stamp"
    for client in CLIENTS.glob("*.mjs"):
        shutil.copy(client, folder)
    if not stamp.exists() or stamp.read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / name, folder)
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(["npm", "ci", *quiet], cwd=folder, check=True)
        stamp.write_bytes(lock)
    return folder


def curl(url: str, question: str, *options: str) -> tuple[str, list[tuple[str, dict]]]:
    """The head, and the name and data of each event."""
    command = ["curl", "--no-buffer", "--silent", "--show-error", "--include", "--max-time", "60"]
    command += ["--header", "accept: text/event-stream", *options]
    command += ["--json", json.dumps({"question": question}), f"{url}/qa"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
    events = []
    for block in filter(None, body.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if lines:
            events.append((lines.get("event", ""), json.loads(lines["data"])))
    return head, events


def curl_reads(url: str, question: str) -> None:
    for version in ("--http1.1", "--http2-prior-knowledge"):
        head, events = curl(url, question, version)
        assert " 200" in head.splitlines()[0], head
        assert "x-tower-dspy-stream: v1" in head and "x-accel-buffering: no" in head, head
        texts: dict[int, str] = {}
        for name, data in events:
            if name == "text" and data["field"] == "answer":
                call = data["lm_call"]
                texts[call] = texts.get(call, "") + data["delta"]
        name, last = events[-1]
        assert name == "done", events
        assert texts[max(texts)] == last["outputs"]["answer"], events
    print("curl: ok")


def curl_sees_failures(url: str) -> None:
    command = ["curl", "--silent", "--include", "--header", "accept: text/event-stream"]
    command += ["--json", '{"question": "busy"}', f"{url}/qa"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert answer.startswith("HTTP/1.1 503") and "retry-after: 7" in answer, answer
    _, events = curl(url, "deadline")
    assert events[-1][0] == "error" and events[-1][1]["kind"] == "deadline", events


def run_clients(url: str, question: str, scripted: bool) -> None:
    curl_reads(url, question)
    if scripted:
        curl_sees_failures(url)
    flags = ["--scripted"] if scripted else []
    python = [sys.executable, CLIENTS / "openai_client.py", url, "qa", question, *flags]
    subprocess.run(python, check=True, timeout=300)
    folder = node_modules()
    node = ["node", folder / "ui_client.mjs", f"{url}/api/chat", question, *flags]
    subprocess.run(node, check=True, timeout=300)


def main() -> None:
    target, *rest = sys.argv[1:]
    question = rest[0] if rest else "Why is the sky blue?"
    if target.startswith("http"):
        run_clients(target, question, scripted=False)
        return
    env = os.environ | {"ADDRESS": "127.0.0.1:0"}
    with subprocess.Popen([target], env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(line.strip() for line in server.stderr if line.startswith("http://"))
            run_clients(url, question, scripted=True)
            server.terminate()
            said = server.stderr.read()
            assert server.wait(60) == 0, said
            # Each SDK leaves one stream that would not end by itself.
            assert said.count("a stalled stream ends: ClientGone\n") == 2, said
        finally:
            server.kill()
    print(said.strip())


if __name__ == "__main__":
    main()
