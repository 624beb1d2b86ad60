"""DSPy's progress bars, which are of no use in the output of a server."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dspy.utils.parallelizer import ParallelExecutor


def hide() -> Callable[[], None]:
    """Makes `dspy.Parallel` and `dspy.Evaluate` show no bars; returns what undoes that.

    Bars that a program makes itself stay.
    """
    shows = ParallelExecutor.execute

    @functools.wraps(shows)
    def execute(executor: ParallelExecutor, *args: Any, **kwargs: Any) -> Any:
        executor.disable_progress_bar = True
        return shows(executor, *args, **kwargs)

    def undo() -> None:
        ParallelExecutor.execute = shows

    ParallelExecutor.execute = execute
    return undo
