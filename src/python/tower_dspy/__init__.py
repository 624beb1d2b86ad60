"""Python's room of tower-dspy: what runs DSPy programs for a Rust service.

A program may import it to ask about the call that it serves, and to leave what it has so far::

    import tower_dspy

    tower_dspy.partial(answer=draft)
    left = tower_dspy.remaining()
    if left is not None and left < 2.0:
        ...  # take the short way

Each works in the program's tasks, in the threads of `dspy.Parallel` and in all others that keep
DSPy's settings or the context. Outside a call, as in a notebook or a test that runs the program
without a host, all of them may be called and do nothing: there is no limit, nothing is cancelled
and a partial answer goes nowhere. There the package comes from the crate's `src/python` folder, on
`PYTHONPATH`; inside a host it is always there.
"""

from tower_dspy.scope import Cancelled, cancelled, deadline, partial, remaining
from tower_dspy.toolbox import ToolError, tools

__all__ = ["Cancelled", "ToolError", "cancelled", "deadline", "partial", "remaining", "tools"]
