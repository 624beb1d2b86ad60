import gc
import sys
import threading
import time
import types
from collections.abc import Iterator

import pytest
from conftest import running

from tower_dspy.call_state import Cancelled
from tower_dspy.interrupt import InterruptibleRun, consume_signal_here
from tower_dspy.patches import imports


def busy(began: threading.Event) -> None:
    began.set()
    while True:
        pass


def test_a_run_stores_its_value_or_its_error():
    with running(lambda: 7) as fine, running(lambda: 1 / 0) as failed:
        pass
    assert (fine.value, fine.error) == (7, None)
    assert isinstance(failed.error, ZeroDivisionError)


def test_a_busy_loop_is_ended():
    began = threading.Event()
    with running(lambda: busy(began)) as run:
        began.wait(30)
        assert run.interrupt()
    assert isinstance(run.error, Cancelled)


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
    with running(function) as run:
        began.wait(30)
        assert run.interrupt()
        while not cleaned:
            time.sleep(0.001)
        assert not run.interrupt()
        again.set()
    assert cleaned == [499500, "to the end"]


def test_an_import_is_not_cut_short(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import import_gate\nimport_gate.wait()\n")
    began, go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "import_gate", gate := types.ModuleType("gate"))
    gate.wait = lambda: (began.set(), go_on.wait(30))
    monkeypatch.syspath_prepend(tmp_path)
    imports.install()
    after = []

    def function() -> None:
        import slow_to_import  # noqa: F401

        after.append("went on")

    with running(function) as run:
        began.wait(30)
        assert not run.interrupt() and not run.interrupt_again()
        go_on.set()
    assert isinstance(run.error, Cancelled) and after == []
    assert hasattr(sys.modules["slow_to_import"], "import_gate")


def test_a_second_interrupt_ends_code_that_caught_the_first():
    began, swallowed = threading.Event(), threading.Event()

    def function() -> None:
        try:
            busy(began)
        except BaseException:
            swallowed.set()
            busy(began)

    with running(function) as run:
        began.wait(30)
        run.interrupt()
        assert swallowed.wait(30)
        assert run.interrupt_again()
    assert isinstance(run.error, Cancelled)


def test_a_consumed_signal_is_not_sent():
    spent, go_on = threading.Event(), threading.Event()

    def function() -> str:
        consume_signal_here()
        spent.set()
        go_on.wait(30)
        return "unharmed"

    with running(function) as run:
        spent.wait(30)
        assert not run.interrupt()
        go_on.set()
    assert run.value == "unharmed"


def test_a_run_that_was_interrupted_before_it_began_does_not_execute():
    ran = []
    run = InterruptibleRun(lambda: ran.append(True))
    assert not run.interrupt()
    run.execute()
    assert ran == []
    assert isinstance(run.error, Cancelled)


def test_nothing_is_raised_after_the_end():
    run = InterruptibleRun(lambda: None)
    run.execute()
    assert not run.interrupt()
    assert not run.interrupt_again()
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
def test_a_late_exception_never_hits_later_code():
    current: list[InterruptibleRun] = [InterruptibleRun(lambda: None)]
    leaked: list[BaseException] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            try:
                run = InterruptibleRun(lambda: sum(n for n in range(100)))
                current[0] = run
                run.execute()
                for _ in range(20):
                    pass
            except BaseException as error:
                leaked.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    hits, end = 0, time.monotonic() + 30
    while hits < 1000 and time.monotonic() < end:
        hits += current[0].interrupt() or current[0].interrupt_again()
    enough.set()
    thread.join()
    assert (leaked, hits) == ([], 1000)
