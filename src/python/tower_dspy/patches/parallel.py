"""`dspy.Parallel`, `Module.batch` and `dspy.Evaluate` as calls need them.

They show no progress bars, which are of no use in the output of a server; those that a program
makes itself stay. They do not run an item that takes long a second time: the first run goes on
beside it, with its LM calls, and a host has limits and hedging for items that take long. When
items fail, DSPy raises a plain exception that only says that there were errors, so a program that
got nothing but 429s would look broken. Here the exceptions of the items are its cause. Runs at once
do not disturb each other's bars.
"""

import functools
import threading
from typing import Any
from weakref import WeakSet

import tqdm
from dspy.utils.parallelizer import ParallelExecutor

from tower_dspy.patches.replace import replace


def install() -> None:
    """Installs the patch."""
    replace(ParallelExecutor, "execute", _quiet_with_causes)
    lock_progress_bars()
    keep_progress_bars()


def lock_progress_bars() -> None:
    """Gives tqdm, and with it `dspy.Parallel`, a lock that an interrupted thread releases.

    tqdm's own lock is written in Python and made on first use: a thread that is interrupted in that
    code keeps it, and every later `dspy.Parallel` of the process waits for ever.
    """
    tqdm.tqdm.set_lock(threading.RLock())


def keep_progress_bars() -> None:
    """Has each bar of tqdm stay among the bars of the process until it ends.

    `dspy.Parallel` and `dspy.Evaluate` begin by clearing that set. A bar of another thread that is
    gone from it raises `KeyError` where it takes itself out. This is so for code outside calls as
    well, which would clear the bars of calls: a bar leaves the set when it is closed, or with its
    last reference.
    """
    if not isinstance(tqdm.tqdm._instances, _Bars):
        tqdm.tqdm._instances = _Bars(tqdm.tqdm._instances)


class _Bars(WeakSet[Any]):
    """A set of bars, each of which takes itself out."""

    def clear(self) -> None:
        """Leaves the bars of other calls where they are."""


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
