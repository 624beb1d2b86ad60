"""Checks what pages of the guide claim of files beside them: each test that a page names exists,
each manifest parses, and the times of the manifests fit together.

Run by the Python of a venv with DSPy, which brings PyYAML: python .ci/guide.py
"""

import configparser
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "src" / "docs"


def seconds(file: str, pattern: str) -> int:
    """The time that `pattern` finds in a source or a page."""
    (found,) = set(re.findall(pattern, (ROOT / file).read_text()))
    return int(found)


# What a server takes from SIGTERM to its end: the drain, the grace for calls, the same for the
# host, and the margin for workers that have to be killed.
DRAIN = seconds("src/docs/deploy.md", r"host\.shutdown\(Duration::from_secs\((\d+)\)\)")
GRACE = seconds("src/server/shutdown.rs", r"const GRACE: Duration = Duration::from_secs\((\d+)\)")
MARGIN = seconds("src/host/handle.rs", r"POOL_STOP_MARGIN: Duration = Duration::from_secs\((\d+)\)")


def fences(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def named_tests() -> int:
    """The tests in the second table of `what_stops`; each is `file.rs`: `name`, ..."""
    page = (DOCS / "what_stops.md").read_text()
    rows = re.findall(r"^\| \d+ \| (`.*) \|$", page, re.MULTILINE)
    table = re.findall(r"^\| \d+ \| [^`]", page, re.MULTILINE)
    assert len(rows) == len(table) > 0, "each row of what stops has its row of tests"
    count = 0
    for row in rows:
        for part in row.split(";"):
            file, *names = re.findall(r"`([^`]+)`", part)
            source = (ROOT / "tests" / "python" / file).read_text()
            for name in names:
                assert f"fn {name}(" in source, f"{file} has no test {name}"
                count += 1
    return count


def kubernetes() -> int:
    count = 0
    for path in sorted(ROOT.glob("src/**/*.md")):
        for manifest in fences(path.read_text(), "yaml"):
            for document in yaml.safe_load_all(manifest):
                count += 1
                if document.get("kind") == "Deployment":
                    deployment(path, document["spec"])
    return count


def deployment(path: pathlib.Path, spec: dict) -> None:
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels, f"{path}: the labels of the pods"
    delay = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = delay + DRAIN + 2 * GRACE + MARGIN
    assert pod["terminationGracePeriodSeconds"] > needed, f"{path}: {needed} s are needed"
    mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
    assert mounts == {volume["name"] for volume in pod.get("volumes", [])}, f"{path}: volumes"
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe].get("httpGet")
        assert get is None or get["port"] in ports, f"{path}: {probe}"


def systemd() -> int:
    units = fences((DOCS / "deploy.md").read_text(), "ini")
    for unit in units:
        parsed = configparser.ConfigParser(interpolation=None)
        parsed.optionxform = str
        parsed.read_string(unit)
        service = parsed["Service"]
        assert float(service["TimeoutStopSec"]) > DRAIN + 2 * GRACE + MARGIN
        if shutil.which("systemd-analyze"):
            verify(unit, service["ExecStart"])
    return len(units)


def verify(unit: str, program: str) -> None:
    # A file that is there, in place of the server.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "qa.service"
        path.write_text(unit.replace(program, "/bin/true"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--recursive-errors=no", str(path)],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0 and "qa.service" not in done.stderr, done.stderr


def main() -> None:
    found = {"tests": named_tests(), "manifests": kubernetes(), "units": systemd()}
    assert all(found.values()), found
    print(", ".join(f"{count} {what}" for what, count in found.items()), "of the guide are right")


if __name__ == "__main__":
    sys.exit(main())
