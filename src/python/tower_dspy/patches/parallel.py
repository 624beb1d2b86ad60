"""`dspy.Parallel`, `Module.batch` and `dspy.Evaluate` as calls need them.

They show no progress bars, which are of no use in the output of a server; those that a program
makes itself stay. They do not run an item that takes long a second time: the first run goes on
beside it, with its LM calls, and a host has limits and hedging for items that take long. When
items fail, DSPy raises a plain exception that only says that there were errors, so a program that
got nothing but 429s would look broken. Here the exceptions of the items are its cause.
"""

import functools
import threading
from typing import Any

import tqdm
from dspy.utils.parallelizer import ParallelExecutor

from tower_dspy.patches.replace import replace


def install() -> None:
    """Installs the patch."""
    replace(ParallelExecutor, "execute", _quiet_with_causes)
    lock_progress_bars()


def lock_progress_bars() -> None:
    """Gives tqdm, and with it `dspy.Parallel`, a lock that an interrupted thread releases.

    tqdm's own lock is written in Python and made on first use: a thread that is interrupted in that
    code keeps it, and every later `dspy.Parallel` of the process waits for ever.
    """
    tqdm.tqdm.set_lock(threading.RLock())


def _quiet_with_causes(execute: Any) -> Any:
    @functools.wraps(execute)
    def with_causes(executor: ParallelExecutor, function: Any, data: Any) -> Any:
        executor.disable_progress_bar = True
        executor.timeout = 0
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
