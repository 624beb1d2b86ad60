"""What the load of a module that is not found says."""

import sys
from pathlib import Path

import pytest

from tower_dspy import search_path
from tower_dspy.faults import HostError
from tower_dspy.targets import find


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that is searched besides those of Python."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path[1:]])
    return tmp_path


def said(target: str) -> str:
    with pytest.raises(HostError) as caught:
        find({"target": target})
    return str(caught.value)


def test_the_folders_that_were_searched_are_named(folder):
    problem = said("no_such_program:Ask")
    assert f"`{folder}`" in problem and "python_path" in problem
    assert f"the packages of `{sys.prefix}`" in problem


def test_a_misspelt_module_is_corrected(folder):
    (folder / "answers_of_test.py").touch()
    assert "did you mean `answers_of_test:Ask`?" in said("answer_of_test:Ask")


def test_a_module_in_a_folder_below_is_found(folder):
    (folder / "programs_of_test").mkdir()
    (folder / "programs_of_test" / "qa_of_test.py").touch()
    assert "did you mean `programs_of_test.qa_of_test:Ask`?" in said("qa_of_test:Ask")
    assert "did you mean `programs_of_test.qa_of_test:A`?" in said("programs_of_test.qa_of_tst:A")


def test_a_file_that_python_cannot_read_is_named_with_its_line(folder):
    from tower_dspy.faults import describe

    (folder / "unreadable_of_test.py").write_text("x = 1\ndef broken(:\n")
    with pytest.raises(SyntaxError) as caught:
        find({"target": "unreadable_of_test:Ask"})
    assert describe(caught.value)["raised_at"] == f"{folder}/unreadable_of_test.py:2"


def test_a_package_is_named_as_it_is_installed():
    error = ModuleNotFoundError("No module named 'sklearn'", name="sklearn.svm")
    problem = search_path.missing(error, "qa:Ask")
    assert f"{sys.prefix}/bin/python -m pip install scikit-learn`" in problem
