"""Changes of modules that are not imported yet."""

import importlib
import sys
from pathlib import Path

import pytest

from tower_dspy.patches.replace import when_imported


def test_all_changes_of_a_module_are_made_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "changed_later.py").write_text("values = ['own']\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for value in ("first", "second"):
        when_imported("changed_later", lambda module, value=value: module.values.append(value))
    module = importlib.import_module("changed_later")
    try:
        assert module.values == ["own", "first", "second"]
        when_imported("changed_later", lambda module: module.values.append("at once"))
        assert module.values[3:] == ["at once"]
    finally:
        del sys.modules["changed_later"]
