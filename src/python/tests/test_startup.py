import logging
import sys
from collections.abc import Callable

import pytest
from conftest import execute_interrupted, in_a_process

from tower_dspy import startup
from tower_dspy.call_state import Cancelled
from tower_dspy.patches.log_records import HostHandler


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", (10_000, 5, 5)),
        ("gc.set_threshold(1000)", (1000, 10, 10)),
        ("gc.set_threshold(*gc.get_threshold()[:2], 5)", None),
    ],
)
def test_collections_are_less_frequent_unless_the_thresholds_were_changed(before, after):
    code = f"""
import gc
{before}
was = gc.get_threshold()
from tower_dspy import startup
startup.calm_gc()
assert gc.get_threshold() == ({after} or was), gc.get_threshold()
"""
    in_a_process(code)


def test_a_thread_that_is_interrupted_while_it_logs_keeps_no_lock() -> None:
    records: list[str] = []
    handler = HostHandler(
        lambda _level, _logger, message, _call: records.append(message), lambda: True
    )
    lock = handler.lock

    class InterruptedLock:
        def __init__(self, interrupt: Callable[[], None]) -> None:
            self._interrupt = interrupt

        def acquire(self) -> None:
            lock.acquire()
            self._interrupt()

        def release(self) -> None:
            lock.release()

        def __enter__(self) -> None:
            self.acquire()

        def __exit__(self, *_: object) -> None:
            self.release()

    def log(interrupt: Callable[[], None]) -> None:
        handler.lock = InterruptedLock(interrupt)
        handler.handle(logging.makeLogRecord({"msg": "said"}))

    run = execute_interrupted(log)
    assert isinstance(run.error, Cancelled)
    assert records == ["said"]
    assert lock.acquire(blocking=False)


@pytest.mark.parametrize(
    ("python_path", "expected"),
    [(["/a", "/b"], ["/a", "/b", *sys.path]), ([], [*sys.path, "/service"])],
)
def test_the_working_directory_is_searched_last_and_only_without_a_python_path(
    python_path, expected, monkeypatch
):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    startup.extend_path(python_path, "/service")
    startup.extend_path([], sys.path[-1])
    assert sys.path == expected


@pytest.mark.parametrize("file", ["dspy.py", "dspy/__init__.py", "typing.py"])
def test_a_file_that_is_imported_in_place_of_a_package_is_named(file, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    (tmp_path / "my_program.py").write_text("")
    (tmp_path / "calendar").mkdir()  # no package, so the module of that name is found
    code = f"""
from tower_dspy import startup
sys.path.insert(0, {str(tmp_path)!r})
for name in ("dspy", "typing"):
    sys.modules.pop(name, None)
try:
    startup.import_dspy(lambda *_: None, lambda: False)
except RuntimeError as error:
    print(error)
"""
    named = path.parent if path.name == "__init__.py" else path
    text = in_a_process(code)
    assert text.startswith(f"`{named}` may be imported in place of the module of that name")
    assert "rename it" in text


def test_a_pythonpath_is_named_where_an_import_fails(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/another/python")
    monkeypatch.setitem(sys.modules, "dspy", None)
    with pytest.raises(ImportError) as raised:
        startup.import_dspy(lambda *_: None, lambda: False)
    assert "$PYTHONPATH is `/of/another/python`" in raised.value.__notes__[0]
