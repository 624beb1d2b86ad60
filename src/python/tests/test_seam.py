from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import dspy
import pytest
from dspy._vendor.lm15 import transports

from tower_dspy import seam, startup
from tower_dspy.patches import hops


def test_this_dspy_has_all_that_is_needed():
    assert seam.check(dspy.__version__) == []


@pytest.mark.parametrize(("module", "names"), seam._NEEDED, ids=lambda value: str(value)[:40])
def test_a_dspy_that_lacks_a_name_is_refused_by_that_name(monkeypatch, module, names):
    gone = f"{names[0]}Gone"
    monkeypatch.setattr(seam, "_NEEDED", ((module, (*names, gone)), ("dspy.gone", ("Any",))))
    with pytest.raises(
        RuntimeError, match=f"{module}.{gone}, dspy.gone.Any.*pip install"
    ) as raised:
        seam.check("9.9")
    assert all(f"{module}.{name}," not in str(raised.value) for name in names)


def test_a_missing_thread_hop_is_slower_and_said_so(monkeypatch):
    monkeypatch.setattr(hops, "_HOPS", (("dspy.clients.execution", "not_there"),))
    (weaker,) = seam.check(dspy.__version__)
    assert "dspy.clients.execution.not_there" in weaker


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
def test_another_version_is_said_to_be_one_and_how_to_get_one_that_fits(version, fits):
    said = seam.check(version)
    assert (said == []) == fits
    assert all(version in line and f"pip install '{seam.MADE_FOR}'" in line for line in said)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("owner", "name"),
    [(dspy.BaseLM, "acall"), (transports, "StdlibAsyncTransport")],
    ids=["calls", "requests"],
)
async def test_the_first_prediction_shows_whether_lm_calls_are_seen(monkeypatch, owner, name):
    await startup.warm()
    before = {
        "acall": inspect.unwrap(dspy.BaseLM.acall),
        "StdlibAsyncTransport": Unseen,
    }
    monkeypatch.setattr(owner, name, before[name])
    with pytest.raises(RuntimeError, match=r"BaseLM\.acall.*pip install"):
        await startup.warm()


class Unseen:
    """Answers by itself, as a client that DSPy would choose instead."""

    def __init__(self, **_):
        pass

    def stream(self, _):
        return self

    async def __aenter__(self):
        async def chunks():
            yield startup._ANSWER

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
    assert project["project"]["optional-dependencies"] == {"dspy": [seam.MADE_FOR]}
