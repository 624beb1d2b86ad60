"""What a DSPy program may ask about the call that it serves.

A program may leave what it has so far, and take a shorter way when time is short::

    import tower_dspy

    tower_dspy.partial(answer=draft)
    left = tower_dspy.remaining()
    if left is not None and left < 2.0:
        ...  # take the short way

Each works in the program's tasks, in the threads of `dspy.Parallel` and in all others that keep
DSPy's settings or the context. Inside a host the package is always there, and needs no
installation. Elsewhere, as in a notebook or a test, `pip install tower-dspy` brings it: outside a
call there is no limit, nothing is cancelled and a partial answer goes nowhere; inside `local` there
is a call to develop with::

    with tower_dspy.local(timeout=10, tools=[search]) as call:
        answer = program(question="?")
    assert call.partial == {"answer": "a draft"}
"""

from tower_dspy.local import LocalCall, local
from tower_dspy.scope import Cancelled, cancelled, deadline, partial, remaining
from tower_dspy.toolbox import ToolError, tools

__all__ = [
    "Cancelled",
    "LocalCall",
    "ToolError",
    "cancelled",
    "deadline",
    "local",
    "partial",
    "remaining",
    "tools",
]
