"""A call without a host, for development: in a notebook, a test or a script."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tower_dspy.api import RemainingBudget
from tower_dspy.call_state import CURRENT_CALL, CallState
from tower_dspy.payload import to_json


class LocalCall:
    """The caller's side of a local call.

    Attributes:
        partial: The fields of the last `partial()` of the program; None before it.
        statuses: The messages of all its `status()` calls.
    """

    def __init__(self) -> None:
        self.partial: dict[str, Any] | None = None
        self.statuses: list[str] = []
        self._cancelled = False

    def cancel(self) -> None:
        """Makes `cancelled()` true. Unlike a host, it does not stop the program's code."""
        self._cancelled = True


@contextlib.contextmanager
def local(
    timeout: float | None = None,
    tools: Iterable[Callable[..., Any]] = (),
    budget: RemainingBudget | None = None,
) -> Iterator[LocalCall]:
    """Runs the code of the block as a call that a host would serve.

    Args:
        timeout: Seconds that `remaining()` counts down from. The call is over when they have
            passed, but nothing stops the code.
        tools: What `tools()` offers: `dspy.Tool`s, or functions to make some of.
        budget: What `remaining_budget()` returns. Nothing is charged to it.
    """
    call = LocalCall()
    side = _LocalHostCall(call, budget)
    state = side.state = CallState(0, side, timeout, stream=_LocalStream(call))
    token = CURRENT_CALL.set(state)
    try:
        with _dspy_settings(state, list(tools)):
            yield call
    finally:
        state.closed = True
        CURRENT_CALL.reset(token)


def _dspy_settings(state: CallState, tools: list[Callable[..., Any]]) -> Any:
    """The settings by which DSPy carries the call into its threads."""
    try:
        import dspy  # not installed everywhere
    except ImportError:
        if tools:
            raise
        return contextlib.nullcontext()
    made = [tool if isinstance(tool, dspy.Tool) else dspy.Tool(tool) for tool in tools]
    offered = {tool.name: tool for tool in made}
    return dspy.context(tower_dspy_call=state, tower_dspy_tools=offered)


class _LocalHostCall:
    """The host's side of a local call."""

    state: CallState

    def __init__(self, call: LocalCall, budget: RemainingBudget | None) -> None:
        self._call = call
        self._budget = budget

    def remaining_budget(self) -> RemainingBudget | None:
        return self._budget

    def is_over(self) -> bool:
        deadline = self.state.deadline
        return self._call._cancelled or (deadline is not None and time.monotonic() >= deadline)

    def timed_out(self) -> bool:
        return not self._call._cancelled and self.is_over()

    def tool_began(self, _: int, __: str) -> None:
        pass

    def tool_ended(self, _: int, __: bool) -> None:
        pass

    def partial(self, fields: dict[str, Any]) -> bool:
        data = json.loads(to_json(fields))
        if self.state.is_over():
            return False
        self._call.partial = data
        return True


class _LocalStream:
    """The stream of a local call, of which the caller sees the statuses alone."""

    def __init__(self, call: LocalCall) -> None:
        self._call = call

    def status(self, message: str) -> None:
        self._call.statuses.append(message)
