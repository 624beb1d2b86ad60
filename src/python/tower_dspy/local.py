"""A call without a host, to develop a program in: in a notebook, a test or a script."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tower_dspy.scope import SCOPE, Scope
from tower_dspy.tails import to_json


class LocalCall:
    """The caller's side of a local call.

    Attributes:
        partial: What the program has left by `partial()`; None before it has.
    """

    def __init__(self) -> None:
        self.partial: dict[str, Any] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Makes `cancelled()` true. Unlike a host, it does not stop the program's code."""
        self._cancelled = True


@contextlib.contextmanager
def local(
    timeout: float | None = None, tools: Iterable[Callable[..., Any]] = ()
) -> Iterator[LocalCall]:
    """Runs the code of the block as a call that a host would serve.

    Args:
        timeout: Seconds that `remaining()` counts down from. The call is over when they have
            passed, but nothing stops the code.
        tools: What `tools()` offers: `dspy.Tool`s, or functions to make some of.
    """
    call = LocalCall()
    side = _HostSide(call)
    scope = side.scope = Scope(0, side, timeout)
    token = SCOPE.set(scope)
    try:
        with _dspy_settings(scope, list(tools)):
            yield call
    finally:
        scope.closed = True
        SCOPE.reset(token)


def _dspy_settings(scope: Scope, tools: list[Callable[..., Any]]) -> Any:
    """The settings by which DSPy carries the call into its threads."""
    try:
        import dspy
    except ImportError:
        if tools:
            raise
        return contextlib.nullcontext()
    made = [tool if isinstance(tool, dspy.Tool) else dspy.Tool(tool) for tool in tools]
    offered = {tool.name: tool for tool in made}
    return dspy.context(tower_dspy_scope=scope, tower_dspy_tools=offered)


class _HostSide:
    """What the functions of this package ask of a host about a call."""

    scope: Scope

    def __init__(self, call: LocalCall) -> None:
        self._call = call

    def is_over(self) -> bool:
        deadline = self.scope.deadline
        return self._call._cancelled or (deadline is not None and time.monotonic() >= deadline)

    def partial(self, fields: dict[str, Any]) -> bool:
        data = json.loads(to_json(fields))
        if self.scope.is_over():
            return False
        self._call.partial = data
        return True
