"""Checks what is in the package, and what is not.

Standard input is the output of `cargo package --list`. Each file has to match a pattern of ALLOWED,
so a new kind of file is a decision; each pattern has to match a file, so the patterns stay true.
Each file below `src` that git tracks is packaged, unless it is for development only.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Written by cargo.
CARGO = r"\.cargo_vcs_info\.json|Cargo\.(lock|toml|toml\.orig)"
ALLOWED = [
    CARGO,
    r"(CHANGELOG|README)\.md",
    r"LICENSE-(APACHE|MIT)",
    r"build\.rs",
    # What is compiled, and what `include_str!` takes into the binary or the documentation.
    r"src/([a-z0-9_]+/)*[a-z0-9_]+\.rs",
    r"src/([a-z_]+/)*[a-z_]+\.md",
    r"src/docs/[a-z_]+-(dark|light)\.svg",
    r"src/page/([a-z]+/)*[a-z]+\.(css|js)",
    r"src/proto/predict\.(binpb|proto)",
    # Python's sources, which travel inside the binary, and the lock that venvs are made by.
    r"src/([a-z_]+/)*[a-z0-9_]+\.py",
    r"src/python/requirements\.lock",
    # The examples, with the configurations to copy.
    r"examples/([a-z_]+/)*([a-z_]+|README)\.(css|html|js|json|md|py|rs|yml)",
    r"examples/[a-z_]+/requirements\.lock",
    r"examples/docker/Dockerfile(\.workers)?(\.dockerignore)?",
    r"examples/proxies/(haproxy\.cfg|nginx\.conf)",
]
# Below `src`, and in no package: unit tests with their data, and the package that programs are
# developed with, which has its own way to its users.
DEVELOPMENT = re.compile(
    r"src/(.+/)?(tests/.+|([a-z_]+_)?tests\.rs)"
    r"|src/stream/fields/corpus\.json"
    r"|src/python/(README\.md|pyproject\.toml|requirements-dev\.lock)"
)
# Packages of their own, which cargo leaves out: they are copied or run from a clone.
OWN_PACKAGES = ("examples/app/", "examples/tour/")


def problems(packaged: list[str], tracked: list[str]) -> list[str]:
    """Returns one line for each file that should not be packaged, or should be."""
    allowed = re.compile("|".join(f"(?:{pattern})" for pattern in ALLOWED))
    found = []
    for path in packaged:
        if not allowed.fullmatch(path):
            found.append(f"{path}: packaged, and expected by no pattern of ALLOWED")
        elif DEVELOPMENT.fullmatch(path) or path.startswith(OWN_PACKAGES):
            found.append(f"{path}: packaged, but for development only")
    for pattern in ALLOWED:
        if not any(re.fullmatch(pattern, path) for path in packaged):
            found.append(f"{pattern}: matches no packaged file")
    missing = set(tracked) - set(packaged)
    found += [
        f"{path}: not packaged, and not for development only"
        for path in sorted(missing)
        if not DEVELOPMENT.fullmatch(path)
    ]
    return found


def main() -> None:
    packaged = sys.stdin.read().split()
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found = problems(packaged, listed.stdout.split())
    if found:
        sys.exit("\n".join(found))
    print(f"{len(packaged)} files, all of them expected")


if __name__ == "__main__":
    main()
