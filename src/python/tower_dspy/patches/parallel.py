"""`dspy.Parallel`, `Module.batch` and `dspy.Evaluate`: without progress bars, and with causes.

Bars are of no use in the output of a server; those that a program makes itself stay. And where the
items fail, DSPy raises a plain exception that says nothing but that there were errors: a program
would look broken that got nothing but 429s. Here what the items raised is its cause.
"""

from __future__ import annotations

import functools
from typing import Any

from dspy.utils.parallelizer import ParallelExecutor

from tower_dspy.patches.replace import replace


def install() -> None:
    """Makes the changes."""
    replace(ParallelExecutor, "execute", _quiet_with_causes)


def _quiet_with_causes(execute: Any) -> Any:
    @functools.wraps(execute)
    def with_causes(executor: ParallelExecutor, function: Any, data: Any) -> Any:
        executor.disable_progress_bar = True
        failures: list[Exception] = []

        def noting(item: Any) -> Any:
            try:
                return function(item)
            except Exception as error:
                failures.append(error)
                raise

        try:
            return execute(executor, noting, data)
        except Exception as error:
            if failures and error.__cause__ is None:
                raise error from ExceptionGroup("its items raised", list(failures))
            raise

    return with_causes
