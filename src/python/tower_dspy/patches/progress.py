"""DSPy's progress bars, which are of no use in the output of a server.

Bars that a program makes itself stay.
"""

from __future__ import annotations

import functools
from typing import Any

from dspy.utils.parallelizer import ParallelExecutor

from tower_dspy.patches.replace import replace


def install() -> None:
    """Makes `dspy.Parallel` and `dspy.Evaluate` show no bars."""
    replace(ParallelExecutor, "execute", _without_bar)


def _without_bar(execute: Any) -> Any:
    @functools.wraps(execute)
    def without_bar(executor: ParallelExecutor, *args: Any, **kwargs: Any) -> Any:
        executor.disable_progress_bar = True
        return execute(executor, *args, **kwargs)

    return without_bar
