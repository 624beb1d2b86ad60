"""Functions by which a DSPy program asks about its call.

A program may say what it does, store a partial answer, and do less when time or money is short::

    import tower_dspy

    tower_dspy.status("reading 3 pages")
    tower_dspy.partial(answer=draft)
    left = tower_dspy.remaining()
    if left is not None and left < 2.0:
        ...  # do less
    budget = tower_dspy.remaining_budget()
    if budget is not None and budget.wrap_up:
        ...  # answer with what there is

They work in the program's tasks, in the threads of `dspy.Parallel` and in all others that have
DSPy's settings or the context. A host brings the package along. Elsewhere, as in a notebook or a
test, `pip install tower-dspy` installs it: outside a call there is no limit, nothing is cancelled,
and a status and a partial answer are dropped; `local` makes a call for development::

    with tower_dspy.local(timeout=10, tools=[search]) as call:
        answer = program(question="?")
    assert call.partial == {"answer": "a draft"}
"""

from tower_dspy.api import (
    RemainingBudget,
    ToolError,
    cancelled,
    deadline,
    partial,
    remaining,
    remaining_budget,
    status,
    tools,
)
from tower_dspy.call_state import Cancelled
from tower_dspy.local_call import LocalCall, local

__all__ = [
    "Cancelled",
    "LocalCall",
    "RemainingBudget",
    "ToolError",
    "cancelled",
    "deadline",
    "local",
    "partial",
    "remaining",
    "remaining_budget",
    "status",
    "tools",
]
