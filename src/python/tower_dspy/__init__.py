"""Python's room of tower-dspy: what runs DSPy programs for a Rust service.

A program may import it to ask about the call that it serves::

    import tower_dspy

    if tower_dspy.remaining() < 2.0:
        ...  # take the short way

Outside a call the limits read as "none".
"""

from tower_dspy.scope import Cancelled, cancelled, deadline, remaining

__all__ = ["Cancelled", "cancelled", "deadline", "remaining"]
