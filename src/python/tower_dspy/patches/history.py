"""DSPy's history of LM calls, kept for each call of a program by itself.

`lm.history`, `module.history` and `dspy.inspect_history()` of code in a call show what that call
asked. Calls run beside each other on the same objects, so what one asks is neither shown to the
others nor kept when it has ended. Outside a call nothing is kept.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import Any

import dspy
from dspy.clients import base_lm, typesafe

from tower_dspy.patches.replace import replace
from tower_dspy.scope import current_scope

# Entries of one owner in one call, if the program does not ask for fewer.
_MOST = 1000


def install() -> None:
    """Makes the changes."""
    for module in (base_lm, typesafe):
        replace(module, "record_history", lambda _: _record)
    replace(base_lm, "pretty_print_history", _print)
    for owner in (dspy.BaseLM, dspy.Module, typesafe.TypeSafe):
        owner.history = property(_history, _set_history)


class History:
    """What one call asked, for each LM and module that asked it."""

    def __init__(self) -> None:
        self.all: deque[dict[str, Any]] = deque(maxlen=_MOST)
        self._of: dict[int, tuple[Any, list[dict[str, Any]]]] = {}

    def of(self, owner: Any) -> list[dict[str, Any]]:
        """The entries of an LM or a module, which is kept so that its id stays its own."""
        return self._of.setdefault(id(owner), (owner, []))[1]

    def forget(self, owner: Any) -> None:
        """Begins the entries of an owner anew; a list that the program took before stays."""
        self._of.pop(id(owner), None)


def _history(owner: Any) -> Any:
    own = owner.__dict__.setdefault("history", [])
    scope = current_scope()
    if scope is None or own != []:
        # A program may keep what it likes under this name.
        return own
    # An LM that a program made, and the host took over, is asked through another object.
    return _of_call(scope).of(scope.stand_ins.get(id(owner), owner))


def _set_history(owner: Any, value: Any) -> None:
    owner.__dict__["history"] = value
    scope = current_scope()
    if scope is not None and scope.history is not None:
        scope.history.forget(scope.stand_ins.get(id(owner), owner))


def _of_call(scope: Any) -> History:
    if scope.history is None:
        scope.history = History()
    return scope.history


def _record(client: Any, entry: dict[str, Any]) -> None:
    scope = current_scope()
    if scope is None or dspy.settings.disable_history:
        return
    history = _of_call(scope)
    history.all.append(entry)
    most = min(dspy.settings.max_history_size, _MOST)
    for owner in (client, *(dspy.settings.caller_modules or ())):
        entries = history.of(owner)
        entries.append(entry)
        del entries[: max(0, len(entries) - most)]


def _print(pretty_print: Any) -> Any:
    @functools.wraps(pretty_print)
    def pretty_print_history(history: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None and history is base_lm.GLOBAL_HISTORY:
            history = list(_of_call(scope).all)
        return pretty_print(history, *args, **kwargs)

    return pretty_print_history
