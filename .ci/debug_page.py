"""Runs the example with the page of its calls, and looks at it in Chromium.

Run: CHROMIUM=/usr/bin/chromium python3 .ci/debug_page.py target/debug/examples/debug_page

Pictures of the page are put into target/debug_page.
"""

from __future__ import annotations

import os
import subprocess
import sys

from stream_clients import ROOT, node_modules
from stream_example import LIMIT, serving

PICTURES = ROOT / "target" / "debug_page"


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
    with serving(sys.argv[1], "--quiet") as (url, _):
        command = ["node", node_modules() / "debug_page.mjs", chromium, url, PICTURES]
        subprocess.run(command, check=True, timeout=10 * LIMIT)


if __name__ == "__main__":
    main()
