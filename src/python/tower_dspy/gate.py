"""The gate that code on threads passes at each of its steps.

A thread hears of nothing while it waits in C code. So each step that DSPy knows of, a module, a
tool, a prompt, an LM call, begins with a look at whether the call is still wanted.
"""

from __future__ import annotations

import threading
import time
from typing import Any, NoReturn

from dspy.utils.callback import BaseCallback

from tower_dspy.forks import leave_if_child
from tower_dspy.interrupt import spend_signal_here
from tower_dspy.scope import Cancelled, Scope, current_scope

# Seconds that a thread waits at its second refusal, twice that at the next, up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.010, 1.0


def refuse(scope: Scope | None, message: str) -> NoReturn:
    """Ends what a thread of a cancelled call is doing.

    A program that swallows even that and asks again would keep a processor busy. It is told each
    time, but after a wait that doubles from one time to the next.
    """
    spend_signal_here()
    if scope is not None:
        if scope.refusals is None:
            scope.refusals = {}
        thread = threading.get_ident()
        before = scope.refusals.get(thread, 0)
        scope.refusals[thread] = before + 1
        if before:
            time.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(before - 1, 10)))
    raise Cancelled(message)


def pass_or_raise(scope: Scope | None) -> None:
    """Lets a thread of a call that is not over pass."""
    leave_if_child()
    if scope is not None and scope.is_over():
        refuse(scope, "the call was cancelled: it takes no step any more")


class StepGate(BaseCallback):
    """The gate as a callback of DSPy's, which lets a BaseException through."""

    def on_module_start(self, **_: Any) -> None:
        pass_or_raise(current_scope())

    def on_lm_start(self, **_: Any) -> None:
        pass_or_raise(current_scope())

    def on_tool_start(self, **_: Any) -> None:
        pass_or_raise(current_scope())

    def on_adapter_format_start(self, **_: Any) -> None:
        pass_or_raise(current_scope())


GATE = StepGate()
