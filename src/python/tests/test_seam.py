from __future__ import annotations

import tomllib
from pathlib import Path

import dspy
import pytest

from tower_dspy import executor, seam, startup, steps


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
    monkeypatch.setattr(executor, "_HOPS", (("dspy.clients.execution", "not_there"),))
    (weaker,) = seam.check(dspy.__version__)
    assert "dspy.clients.execution.not_there" in weaker


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("3.4.0", False),
        ("3.4.1", True),
        ("3.4.12", True),
        ("3.4.1rc2", True),
        ("3.5", False),
        ("3.5.0b1", False),
        ("4.0", False),
        ("unknown", False),
    ],
)
def test_another_version_is_said_to_be_one(version, fits):
    assert (seam.check(version) == []) == fits


@pytest.mark.asyncio
async def test_the_first_prediction_shows_whether_lm_calls_are_seen(monkeypatch):
    for name in ("__call__", "acall"):
        monkeypatch.setattr(dspy.BaseLM, name, getattr(dspy.BaseLM, name))
    with pytest.raises(RuntimeError, match=r"BaseLM\.acall.*pip install"):
        await startup.warm()
    steps.watch()
    await startup.warm()


def test_the_version_is_that_of_the_lock():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == [seam.MADE_FOR]
