"""Checks that no dependency of the library needs a newer Rust than the library says it needs.

Dev-dependencies are left out: peers in benchmarks need a newer Rust, and a user does not build
them. A package without `rust-version` says nothing, so it is only counted.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "tower-dspy"


def cargo(*arguments: str) -> str:
    """Returns what a command of cargo prints, for the versions of `Cargo.lock`."""
    command = ["cargo", *arguments, "--locked"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return ran.stdout


def version(text: str) -> tuple[int, ...]:
    """Returns `1.89` and `1.89.0` as the same number."""
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def main() -> None:
    packages = json.loads(cargo("metadata", "--format-version", "1", "--all-features"))["packages"]
    needed = {(p["name"], p["version"]): p["rust_version"] for p in packages}
    # One line a package: `name vVERSION`, then a path, `(proc-macro)` or `(*)`.
    tree = cargo(
        *("tree", "-p", LIBRARY, "--all-features", "--edges", "normal,build", "--target", "all"),
        *("--prefix", "none"),
    )
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    used = {(name, number.removeprefix("v")) for name, number in used}
    own = next(rust for (name, _), rust in needed.items() if name == LIBRARY)

    newer = [
        f"{name} {number} needs Rust {rust}, {LIBRARY} says {own}"
        for name, number in sorted(used)
        if (rust := needed[name, number]) and version(rust) > version(own)
    ]
    if newer:
        sys.exit("\n".join(newer))
    silent = sum(needed[package] is None for package in used)
    print(f"{len(used)} packages build with Rust {own}; {silent} of them do not say what they need")


if __name__ == "__main__":
    main()
