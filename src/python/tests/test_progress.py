from __future__ import annotations

import inspect

import dspy
import pytest
import tqdm
from dspy.utils.parallelizer import ParallelExecutor


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
def test_without_the_patch_it_shows_them(capfd, monkeypatch, run):
    unpatched = inspect.unwrap(ParallelExecutor.execute)
    monkeypatch.setattr(ParallelExecutor, "execute", unpatched)
    run()
    assert "2/2" in shown(capfd)


def test_bars_that_a_program_makes_stay(capfd):
    for _ in tqdm.tqdm(range(2)):
        pass
    assert "2/2" in shown(capfd)
