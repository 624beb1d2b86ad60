"""The package as `pip` installs it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import dspy
import pytest

FOLDER = Path(__file__).parent.parent
PUBLIC = [
    "__init__",
    "api",
    "call_state",
    "jsonable",
    "lm_call",
    "local_call",
    "patches/__init__",
    "patches/type_serializer",
    "payload",
]

PROGRAM = """
import json
import sys

import tower_dspy

assert "dspy" not in sys.modules, "it is imported before anything needs it"

import dspy


class Program(dspy.Module):
    def forward(self, question):
        (search,) = tower_dspy.tools("search")
        kept = tower_dspy.partial(answer=search(query=question), picture=dspy.Image(url=URL))
        left, limit = tower_dspy.remaining(), tower_dspy.deadline()
        return dspy.Prediction(kept=kept, left=left, limited=limit is not None)


def search(query: str) -> str:
    return f"a page on {query}"


URL = "https://example.com/cat.png"
outside = [tower_dspy.partial(answer=1), tower_dspy.remaining(), tower_dspy.cancelled()]
with tower_dspy.local(timeout=10, tools=[search]) as call:
    answer = Program()(question="towers")
    call.cancel()
    cancelled = tower_dspy.cancelled()
print(json.dumps({
    "outside": outside, "partial": call.partial, "cancelled": cancelled, **answer.toDict(),
    "file": tower_dspy.__file__,
}))
"""

HOST = """
import sys

exec(open(sys.argv[1]).read())
install({"tower_dspy": "whose = 'the host'", "tower_dspy.call_state": "whose = 'the host'"})
import tower_dspy
import tower_dspy.call_state

assert (tower_dspy.whose, tower_dspy.call_state.whose) == ("the host", "the host")
try:
    import tower_dspy.local_call
except ImportError:
    pass
else:
    raise AssertionError("the installed package was mixed in")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv that has the package, and the DSPy of these tests."""
    venv = tmp_path_factory.mktemp("package") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *quiet, FOLDER)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "dspy.pth").write_text(f"{Path(dspy.__file__).parent.parent}\n")
    return python


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.installs
def test_a_program_runs_on_the_installed_package(python, tmp_path):
    told = json.loads(run(python, "-I", "-c", PROGRAM, cwd=tmp_path))
    assert Path(told.pop("file")).is_relative_to(python.parent.parent)
    assert 9 < told.pop("left") <= 10
    picture = {"url": "https://example.com/cat.png"}
    assert told == {
        "outside": [False, None, False],
        "partial": {"answer": "a page on towers", "picture": picture},
        "cancelled": True,
        "kept": True,
        "limited": True,
    }


@pytest.mark.installs
def test_the_package_holds_the_public_modules_and_requires_nothing(python):
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    package = site / "tower_dspy"
    files = [file.relative_to(package).with_suffix("") for file in package.rglob("*.py")]
    assert sorted(map(str, files)) == sorted(PUBLIC)
    (info,) = site.glob("tower_dspy-*.dist-info")
    lines = (info / "METADATA").read_text().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist")]
    assert all("extra == " in line for line in required)
    assert "License-Expression: MIT OR Apache-2.0" in lines


@pytest.mark.installs
def test_in_a_host_the_hosts_own_copy_is_imported(python, tmp_path):
    run(python, "-I", "-c", HOST, FOLDER / "tower_dspy" / "bootstrap.py", cwd=tmp_path)


def test_its_version_is_that_of_the_crate():
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    crate = tomllib.loads((FOLDER.parent.parent / "Cargo.toml").read_text())["workspace"]
    assert project["version"] == crate["package"]["version"]
    assert project["license"] == crate["package"]["license"]


def test_the_example_of_its_readme_runs():
    readme = (FOLDER / "README.md").read_text()
    code = readme.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
