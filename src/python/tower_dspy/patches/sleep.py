"""A `time.sleep` that a signal ends.

In the code of a call, and on the threads that it starts, it waits for a private lock, which
wait_end.py releases while a signal to the thread is pending. Elsewhere it is the original. A module
that imported the function before this patch was installed keeps the original too.
"""

import functools
import operator
import threading
import time
from collections.abc import Callable
from typing import Any

from tower_dspy.call_state import current_call
from tower_dspy.patches.replace import replace
from tower_dspy.thread_signal import HERE


def install() -> None:
    """Installs the patch."""
    replace(time, "sleep", _ending)


def _ending(sleep: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(sleep)
    def sleep_in_call(seconds: Any, /) -> None:
        # Such as the integers of numpy.
        if not isinstance(seconds, int | float) and hasattr(type(seconds), "__index__"):
            seconds = operator.index(seconds)
        # All else, such as what is refused, is left to the original.
        plain = isinstance(seconds, int | float) and 0 < seconds < threading.TIMEOUT_MAX
        # A pool's thread may be of a call without the context of that.
        if plain and (HERE.run is not None or current_call() is not None):
            wait(seconds)
        else:
            sleep(seconds)

    return sleep_in_call


def wait(seconds: float) -> None:
    """Waits for so long. The lock `waiter` is found by its name, see wait_end.py."""
    waiter = threading.Lock()
    waiter.acquire()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        waiter.acquire(timeout=left)
