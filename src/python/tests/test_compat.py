import ast
import importlib
import inspect
import tomllib
from pathlib import Path

import dspy
import pytest
from dspy._vendor.lm15 import transports

from tower_dspy import compat, warmup
from tower_dspy.patches import to_thread


def test_this_dspy_is_compatible():
    assert compat.check(dspy.__version__) == []


# Of DSPy's documentation, in modules of their own.
DOCUMENTED = {"dspy.utils.callback": "BaseCallback"}


def test_all_names_that_are_imported_from_modules_of_dspy_are_required():
    known = {**compat._REQUIRED, **DOCUMENTED}
    package = Path(compat.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("dspy."):
                continue
            required = {name.split(".")[0] for name in known.get(node.module, "").split()}
            parent = importlib.import_module(node.module)
            names = {a.name for a in node.names if not inspect.ismodule(getattr(parent, a.name))}
            assert names <= required, f"{path.name} imports {names} from {node.module}"


@pytest.mark.parametrize(("module", "names"), compat._REQUIRED.items())
def test_the_error_of_an_incompatible_dspy_names_what_it_lacks(monkeypatch, module, names):
    gone = f"{names.split()[0]}Gone"
    required = {module: f"{names} {gone}", "dspy.gone": "Any"}
    monkeypatch.setattr(compat, "_REQUIRED", required)
    with pytest.raises(
        RuntimeError, match=f"{module}.{gone}, dspy.gone.Any.*pip install"
    ) as raised:
        compat.check("9.9")
    assert all(f"{module}.{name}," not in str(raised.value) for name in names.split())


def test_a_missing_inline_function_is_a_warning(monkeypatch):
    monkeypatch.setattr(to_thread, "_INLINE", (("dspy.clients.execution", "not_there"),))
    (warning,) = compat.check(dspy.__version__)
    assert "dspy.clients.execution.not_there" in warning


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("3.3.9", False),
        ("3.4.0", True),
        ("3.4.1", True),
        ("3.4.12", True),
        ("3.4.1rc2", True),
        ("3.5", False),
        ("3.5.0b1", False),
        ("4.0", False),
        ("unknown", False),
    ],
)
def test_another_version_is_a_warning_that_says_how_to_install_one_that_fits(version, fits):
    said = compat.check(version)
    assert (said == []) == fits
    assert all(version in line and f"pip install '{compat.MADE_FOR}'" in line for line in said)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("owner", "name"),
    [(dspy.BaseLM, "acall"), (transports, "StdlibAsyncTransport")],
    ids=["calls", "requests"],
)
async def test_the_warm_up_fails_if_lm_calls_bypass_the_patches(monkeypatch, owner, name):
    await warmup.warm()
    before = {
        "acall": inspect.unwrap(dspy.BaseLM.acall),
        "StdlibAsyncTransport": OtherTransport,
    }
    monkeypatch.setattr(owner, name, before[name])
    with pytest.raises(RuntimeError, match=r"BaseLM\.acall.*pip install"):
        await warmup.warm()


class OtherTransport:
    """A transport that answers by itself."""

    def __init__(self, **_):
        pass

    def stream(self, _):
        return self

    async def __aenter__(self):
        async def chunks():
            yield warmup._ANSWER

        async def release(_):
            pass

        return transports.AsyncTransportResponse(
            status=200,
            reason="",
            headers=[("content-type", "application/json")],
            http_version="HTTP/1.1",
            chunks=chunks(),
            release=release,
        )

    async def __aexit__(self, *_):
        pass


def test_the_version_is_that_of_the_lock():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"] == {"dspy": [compat.MADE_FOR]}
