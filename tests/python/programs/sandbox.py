"""A stand-in for Deno with DSPy's runner: it answers one piece of code, and no other."""

from __future__ import annotations

import json
import sys
import time

for line in sys.stdin:
    message = json.loads(line)
    if message["method"] != "execute":
        break
    if message["params"]["code"] != "print(1+1)":
        time.sleep(3600)
    answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"output": "2\n"}}
    print(json.dumps(answer), flush=True)
