"""DSPy's history of LM calls, separate for each call of a program.

In a call, `lm.history`, `module.history` and `dspy.inspect_history()` show the LM calls of that
call. Calls share LMs and modules, so the history of one is neither shown to the others nor kept
when it has ended. Outside a call nothing is recorded.
"""

import functools
from collections import deque
from typing import Any

import dspy
from dspy.clients import base_lm, typesafe

from tower_dspy.call_state import current_call
from tower_dspy.patches.replace import replace

# Entries of one owner in one call, if the program does not ask for fewer.
_MOST = 1000


def install() -> None:
    """Installs the patch."""
    for module in (base_lm, typesafe):
        replace(module, "record_history", lambda _: _record)
    replace(base_lm, "pretty_print_history", _print)
    for owner in (dspy.BaseLM, dspy.Module, typesafe.TypeSafe):
        owner.history = property(_history, _set_history)


class History:
    """The LM calls of one call, by the LM and the modules that made them."""

    def __init__(self) -> None:
        self.all: deque[dict[str, Any]] = deque(maxlen=_MOST)
        self._of: dict[int, tuple[Any, list[dict[str, Any]]]] = {}

    def of(self, owner: Any) -> list[dict[str, Any]]:
        """The entries of an LM or a module, which is referenced so that its id stays unique."""
        return self._of.setdefault(id(owner), (owner, []))[1]

    def forget(self, owner: Any) -> None:
        """Starts a new list of entries for an owner; a list that the program holds stays."""
        self._of.pop(id(owner), None)


def _history(owner: Any) -> Any:
    own = owner.__dict__.setdefault("history", [])
    state = current_call()
    if state is None or own != []:
        # The program stores something of its own under this name.
        return own
    # An LM that the host took over is called through another object.
    return _of_call(state).of(state.replaced_lms.get(id(owner), owner))


def _set_history(owner: Any, value: Any) -> None:
    owner.__dict__["history"] = value
    state = current_call()
    if state is not None and state.history is not None:
        state.history.forget(state.replaced_lms.get(id(owner), owner))


def _of_call(state: Any) -> History:
    if state.history is None:
        state.history = History()
    return state.history


def _record(client: Any, entry: dict[str, Any]) -> None:
    state = current_call()
    if state is None or dspy.settings.disable_history:
        return
    history = _of_call(state)
    history.all.append(entry)
    most = min(dspy.settings.max_history_size, _MOST)
    for owner in (client, *(dspy.settings.caller_modules or ())):
        entries = history.of(owner)
        entries.append(entry)
        del entries[: max(0, len(entries) - most)]


def _print(pretty_print: Any) -> Any:
    @functools.wraps(pretty_print)
    def pretty_print_history(history: Any, *args: Any, **kwargs: Any) -> Any:
        state = current_call()
        if state is not None and history is base_lm.GLOBAL_HISTORY:
            history = list(_of_call(state).all)
        return pretty_print(history, *args, **kwargs)

    return pretty_print_history
