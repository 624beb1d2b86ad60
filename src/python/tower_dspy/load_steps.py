"""What a load makes in steps, between which the loop goes on with calls."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
# Each step that is yielded is for a thread, and is answered with what it returns or raises.
Steps = Generator[Callable[[], Any], Any, T]


def run_steps(steps: Steps[T]) -> T:
    """Does the steps on this thread."""
    value = failure = None
    while True:
        try:
            step = steps.send(value) if failure is None else steps.throw(failure)
        except StopIteration as end:
            return end.value
        value = failure = None
        try:
            value = step()
        except Exception as error:
            failure = error
