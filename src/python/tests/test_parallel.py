"""`dspy.Parallel` names what it fails of, shows no bars and runs each item once."""

import inspect
import io
import threading
from typing import Any

import dspy
import pytest
import tqdm
from conftest import running
from dspy.utils.parallelizer import ParallelExecutor

from tower_dspy.patches import parallel


class Fails(dspy.Module):
    def forward(self, n: int) -> Any:
        if n % 2:
            raise ValueError(f"no {n}")
        return n


@pytest.mark.parametrize("threads", [1, 3])
def test_the_errors_of_items_are_the_cause_of_the_failure(threads: int) -> None:
    run = dspy.Parallel(num_threads=threads, max_errors=2, disable_progress_bar=True)
    pairs = [(Fails(), {"n": n}) for n in (1, 3)]
    with pytest.raises(Exception, match="due to errors") as raised:
        run(pairs)
    causes = raised.value.__cause__
    assert isinstance(causes, ExceptionGroup)
    assert sorted(map(str, causes.exceptions)) == ["no 1", "no 3"]


def test_errors_below_the_limit_do_not_fail_it() -> None:
    run = dspy.Parallel(num_threads=2, max_errors=2, disable_progress_bar=True)
    assert run([(Fails(), {"n": n}) for n in (0, 1, 2)]) == [0, None, 2]


class Echo(dspy.Module):
    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=question)


def in_parallel(threads: int) -> None:
    example = dspy.Example(question="?").with_inputs("question")
    assert len(dspy.Parallel(num_threads=threads)([(Echo(), example)] * 2)) == 2


def evaluate() -> None:
    examples = [dspy.Example(question="?", answer="?").with_inputs("question")] * 2
    same = dspy.Evaluate(
        devset=examples,
        metric=lambda example, answer: example.answer == answer.answer,
        display_progress=True,
        num_threads=2,
    )
    assert same(Echo()).score == 100


def shown(capfd: pytest.CaptureFixture[str]) -> str:
    return "".join(capfd.readouterr())


RUNS = [lambda: in_parallel(1), lambda: in_parallel(2), evaluate]


@pytest.mark.parametrize("run", RUNS)
def test_dspy_shows_no_progress_bars(capfd, run):
    run()
    assert "it/s" not in shown(capfd)


@pytest.mark.parametrize("run", RUNS)
def test_without_the_patch_dspy_shows_progress_bars(capfd, monkeypatch, run):
    unpatched = inspect.unwrap(ParallelExecutor.execute)
    monkeypatch.setattr(ParallelExecutor, "execute", unpatched)
    run()
    assert "2/2" in shown(capfd)


class RunsLong(dspy.Module):
    """Takes so many seconds, or until it is run a second time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.runs = 0
        self.again = threading.Event()

    def forward(self) -> None:
        self.runs += 1
        if self.runs > 1:
            self.again.set()
        self.again.wait(self.seconds)


# DSPy looks for items that take long once a second.
@pytest.mark.parametrize(("patched", "seconds", "runs"), [(True, 1.5, 1), (False, 30, 2)])
def test_an_item_that_takes_long_is_not_run_a_second_time(monkeypatch, patched, seconds, runs):
    if not patched:
        monkeypatch.setattr(ParallelExecutor, "execute", inspect.unwrap(ParallelExecutor.execute))
    long = RunsLong(seconds)
    dspy.Parallel(num_threads=2, timeout=0.1)([(long, {})])
    assert long.runs == runs


def test_progress_bars_of_a_program_stay(capfd):
    for _ in tqdm.tqdm(range(2)):
        pass
    assert "2/2" in shown(capfd)


def test_a_thread_that_is_interrupted_while_it_shows_progress_releases_the_lock():
    before = tqdm.tqdm.get_lock()
    parallel.lock_progress_bars()
    try:
        for _ in range(300):
            began = threading.Event()

            def shows(began: threading.Event = began) -> None:
                began.set()
                while True:
                    with tqdm.tqdm.get_lock():
                        pass

            with running(shows) as run:
                began.wait(30)
                assert run.interrupt()
            lock = tqdm.tqdm.get_lock()
            assert lock.acquire(timeout=1)
            lock.release()
    finally:
        tqdm.tqdm.set_lock(before)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_lets_a_bar_of_another_thread_be(run):
    # A hidden bar of another thread, which removes it from the set soon.
    bar = tqdm.tqdm.__new__(tqdm.tqdm)
    run()
    bar.__init__(total=1, disable=True)


def test_a_bar_that_ends_is_forgotten():
    bars = tqdm.tqdm._instances
    before = len(bars)
    bar = tqdm.tqdm(total=1, file=io.StringIO())
    assert len(bars) == before + 1
    bar.close()
    assert len(bars) == before
