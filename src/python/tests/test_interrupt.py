from __future__ import annotations

import gc
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tower_dspy.interrupt import Stint, shield_imports, spend_signal_here
from tower_dspy.scope import Cancelled


@contextmanager
def running(function: Callable[[], object]) -> Iterator[Stint]:
    """Runs a stint on a thread and waits for its end."""
    stint = Stint(function)
    thread = threading.Thread(target=stint.run, daemon=True)
    thread.start()
    yield stint
    thread.join(30)
    assert not thread.is_alive()


def busy(began: threading.Event) -> None:
    began.set()
    while True:
        pass


def test_a_stint_keeps_what_came_of_it():
    with running(lambda: 7) as fine, running(lambda: 1 / 0) as failed:
        pass
    assert (fine.value, fine.error) == (7, None)
    assert isinstance(failed.error, ZeroDivisionError)


def test_a_busy_loop_is_ended():
    began = threading.Event()
    with running(lambda: busy(began)) as stint:
        began.wait(30)
        assert stint.interrupt()
    assert isinstance(stint.error, Cancelled)


def test_the_signal_is_sent_once_and_clean_up_runs_to_its_end():
    began, cleaned = threading.Event(), []

    def function() -> None:
        try:
            busy(began)
        finally:
            cleaned.append(sum(range(1000)))
            again.wait(30)
            cleaned.append("to the end")

    again = threading.Event()
    with running(function) as stint:
        began.wait(30)
        assert stint.interrupt()
        while not cleaned:
            time.sleep(0.001)
        assert not stint.interrupt()
        again.set()
    assert cleaned == [499500, "to the end"]


def test_an_import_is_not_cut_short(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import gate_of_import\ngate_of_import.wait()\n")
    began, go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "gate_of_import", gate := types.ModuleType("gate"))
    gate.wait = lambda: (began.set(), go_on.wait(30))
    monkeypatch.syspath_prepend(tmp_path)
    shield_imports()
    after = []

    def function() -> None:
        import slow_to_import  # noqa: F401

        after.append("went on")

    with running(function) as stint:
        began.wait(30)
        assert not stint.interrupt() and not stint.insist()
        go_on.set()
    assert isinstance(stint.error, Cancelled) and after == []
    assert hasattr(sys.modules["slow_to_import"], "gate_of_import")


def test_insisting_ends_what_swallowed_the_signal():
    began, swallowed = threading.Event(), threading.Event()

    def function() -> None:
        try:
            busy(began)
        except BaseException:
            swallowed.set()
            busy(began)

    with running(function) as stint:
        began.wait(30)
        stint.interrupt()
        assert swallowed.wait(30)
        assert stint.insist()
    assert isinstance(stint.error, Cancelled)


def test_a_signal_that_is_spent_is_not_sent():
    spent, go_on = threading.Event(), threading.Event()

    def function() -> str:
        spend_signal_here()
        spent.set()
        go_on.wait(30)
        return "unharmed"

    with running(function) as stint:
        spent.wait(30)
        assert not stint.interrupt()
        go_on.set()
    assert stint.value == "unharmed"


def test_a_stint_that_was_stopped_before_it_began_does_not_run():
    ran = []
    stint = Stint(lambda: ran.append(True))
    assert not stint.interrupt()
    stint.run()
    assert ran == []
    assert isinstance(stint.error, Cancelled)


def test_nothing_is_raised_after_the_end():
    stint = Stint(lambda: None)
    stint.run()
    assert not stint.interrupt()
    assert not stint.insist()
    sum(range(1000))


@pytest.fixture
def eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    # What is raised in a destructor is reported and lost, and here there are many of both.
    gc.disable()
    yield
    gc.enable()
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_a_late_exception_never_hits_what_comes_next():
    current: list[Stint] = [Stint(lambda: None)]
    leaked: list[BaseException] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            try:
                stint = Stint(lambda: sum(n for n in range(100)))
                current[0] = stint
                stint.run()
                for _ in range(20):
                    pass
            except BaseException as error:
                leaked.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    hits, end = 0, time.monotonic() + 30
    while hits < 1000 and time.monotonic() < end:
        hits += current[0].interrupt() or current[0].insist()
    enough.set()
    thread.join()
    assert (leaked, hits) == ([], 1000)
