"""The functions by which a program asks about its call, uses tools, and reports to its caller."""

import time
from typing import Any, NamedTuple

from tower_dspy.call_state import current_call


class ToolError(Exception):
    """A tool failed; the message is that of its error."""


class RemainingBudget(NamedTuple):
    """What is left for the LM calls of a call: the least of all its budgets."""

    tokens: int | None
    """Tokens of prompts and answers; None if no budget limits them."""
    usd: float | None
    """US dollars; None if no budget limits them."""
    wrap_up: bool
    """Whether a budget has spent its soft share: the program is to come to an end."""


def deadline() -> float | None:
    """The call's deadline in seconds of `time.monotonic()`; None without a limit."""
    state = current_call()
    return None if state is None else state.deadline


def remaining() -> float | None:
    """Seconds left until the call's deadline, never below 0; None without a limit."""
    limit = deadline()
    return None if limit is None else max(0.0, limit - time.monotonic())


def remaining_budget() -> RemainingBudget | None:
    """What is left for LM calls, less what those under way have reserved; None without a budget.

    An LM call that finds a budget used up is not sent, and raises DSPy's `LMTransportError`. In a
    worker process it is as of the start of the call, and of the end of its last LM call: what other
    calls take from a budget that they share shows then. What an LM call took that the program cut
    off shows a moment after.
    """
    state = current_call()
    left = None if state is None else state.call.remaining_budget()
    return None if left is None else RemainingBudget(*left)


def cancelled() -> bool:
    """Whether the call has been cancelled: no caller waits for its answer any more.

    Known at once, even while the code that asks blocks the loop.
    """
    state = current_call()
    return state is not None and state.is_over()


def partial(**fields: Any) -> bool:
    """Stores a partial answer, which the caller gets if the call ends without an answer.

    The fields are serialised at once and replace those of an earlier call as a whole. They are on
    the error (`Error::spent`) of a call that was stopped, even while this program blocks. Returns
    False if no caller waits for them any more, or there is no host.

    Raises:
        ValueError: a field is not one of the program's output fields, or its value does not fit
            the type that the signature gives it, or is not JSON.
    """
    state = current_call()
    if state is None:
        return False
    known = state.outputs
    if known is not None and (unknown := [name for name in fields if name not in known]):
        raise ValueError(f"the program has no output field {unknown}; it has {list(known)}")
    # Imports DSPy, which need not be installed where a program is written.
    from tower_dspy.jsonable import to_json_data

    try:
        data = to_json_data(fields)
    except Exception as error:
        raise ValueError(f"the partial answer is not JSON: {error}") from error
    for name, value in fields.items() if known is not None else ():
        if (misfit := known[name].misfit(value, data[name])) is not None:
            raise ValueError(f"the partial answer's `{name}` does not fit: {misfit}")
    try:
        return state.call.partial(data)
    except Exception as error:
        raise ValueError(f"the partial answer is not JSON: {error}") from error


def status(message: str) -> bool:
    """Sends a message about what the program does to the reader of its stream.

    Never waits for the reader. Returns False if nobody reads a stream of the call, or there is no
    host.

    Raises:
        TypeError: the message is not a string.
    """
    if not isinstance(message, str):
        raise TypeError(f"the message is a {type(message).__name__}; give it as a string")
    state = current_call()
    if state is None or state.stream is None or state.is_over():
        return False
    state.stream.status(message)
    return True


def tools(*names: str) -> list[Any]:
    """The tools that the program was loaded with, as a list of `dspy.Tool`.

    All of them, or those of these names in this order. To be called while a program is made or
    runs, not when its module is imported: the import happens once, for the first load alone.
    """
    # DSPy need not be installed where a program is written.
    import dspy

    offered = dspy.settings.get("tower_dspy_tools") or {}
    if not names:
        return list(offered.values())
    missing = [name for name in names if name not in offered]
    if missing:
        raise LookupError(
            f"the program was loaded without the tools {missing}; there are {list(offered)}"
        )
    return [offered[name] for name in names]
