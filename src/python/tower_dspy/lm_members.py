"""The LM calls of a group's members, see patches/failover.py."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspy.clients import execution
from dspy.clients.backend_selection import CLIENT_KEYS

from tower_dspy import faults
from tower_dspy.call_state import current_call
from tower_dspy.lm_call import CURRENT_LM_CALL, HOST_ID, LmCall
from tower_dspy.lm_group import LmGroup, given_options, group_of, ungrouped

# The failures of requests after which another member is asked. Others are refusals by the host and
# ends of the call.
TRIGGERS = frozenset(
    ("connect", "connect_timeout", "read_timeout", "read", "write", "protocol", "overloaded")
)
# The statuses of a quota that is used up: it is that provider's alone.
_USED_UP = frozenset((402, 429))

# The options that are of one provider.
_CONNECTION = CLIENT_KEYS - {"timeout"}


class MemberCall:
    """The LM call of a member, in place of one of its group's."""

    def __init__(self, lm: Any, call: Any, member: Any, content_by: float | None) -> None:
        # That of the group.
        self._outer = CURRENT_LM_CALL.get()
        self._lm = lm
        self._call = call
        self._member = member
        # The call is prepared for the first member, unless that is a group as well.
        self._first = group_of(lm).members[0]
        self._is_prepared = member is self._first and group_of(member) is None
        # What DSPy executes.
        self._executed = (ungrouped(lm) if self._is_prepared else member), call
        self.lm_call = LmCall(
            member.model, getattr(member, HOST_ID, None), content_by=content_by, outer=self._outer
        )

    @property
    def model(self) -> str:
        return self._member.model

    def run(self, execute: Any) -> Any:
        """Executes the LM call in sync code; returns DSPy's result."""
        with self._as_current():
            if not self._is_prepared:
                lm, *arguments = self._arguments()
                call = execution.prepare(lm, *arguments, direct=True)
                self._executed = lm, call
            return execute(*self._executed)

    async def run_async(self, execute: Any) -> Any:
        """Executes the LM call in async code; returns DSPy's result."""
        with self._as_current():
            if not self._is_prepared:
                lm, *arguments = self._arguments()
                options = {"direct": True, "asynchronous": True}
                # As DSPy does: it may read files.
                call = await asyncio.to_thread(execution.prepare, lm, *arguments, **options)
                self._executed = lm, call
            return await execute(*self._executed)

    def answered(self) -> None:
        """The answer of this member is that of the group."""
        if self._outer is not None:
            self._outer.exchange = self.lm_call.exchange
            self._outer.failure = None
            executed = None if self._is_prepared else self._executed
            self._outer.answered = self.lm_call.answered or executed

    def failed(self) -> None:
        """The failure of this member is that of the group."""
        if self._outer is not None:
            self._outer.failure = self.lm_call.failure

    def may_be_replaced(self, error: Any) -> bool:
        """Whether another member may answer, after this LM failure."""
        if self.lm_call.is_shown:
            return False
        if self.lm_call.failure is not None:
            return self.lm_call.failure in TRIGGERS
        status = faults.status_of(error)
        return status in _USED_UP or not faults.is_rejected(error, status)

    @contextmanager
    def _as_current(self) -> Iterator[None]:
        token = CURRENT_LM_CALL.set(self.lm_call)
        try:
            yield
        finally:
            CURRENT_LM_CALL.reset(token)
            if self._outer is not None:
                # Of two at once, either may have shown it.
                self._outer.is_shown |= self.lm_call.is_shown

    def _arguments(self) -> tuple[Any, ...]:
        """The LM of the member, and the prompt, the messages and the options of the program."""
        call = self._call
        lm = self._member.copy(cache=self._lm.cache, **_changes(self._lm, self._first))
        # An LM call is in the history of the LM that the program has.
        lm.update_history = self._lm.update_history
        # Or DSPy warns at each LM call.
        lm._warn_zero_temp_rollout = self._member._warn_zero_temp_rollout
        prompt = call.prompt
        if call.request is not None:
            prompt = dataclasses.replace(call.request, model=lm.model)
        # A key or an address that the program gave is for the provider of the first member.
        options = {name: call.kwargs[name] for name in call.kwargs if name not in _CONNECTION}
        return lm, prompt, call.messages, options


def _changes(copied: Any, original: Any) -> dict[str, Any]:
    """The options that a copy of a group's LM gives or changes; None for those that it removes."""
    now, before = copied.kwargs, original.kwargs
    names = {name for name in now.keys() | before.keys() if now.get(name) != before.get(name)}
    # Also where the first member has the same value: another one may have none.
    names = (names | given_options(copied)) - _CONNECTION
    return {name: now.get(name) for name in names}


def content_by(group: LmGroup, left: int) -> float | None:
    """When a member has to have content, of which so many are left with it."""
    state, lm_call = current_call(), CURRENT_LM_CALL.get()
    outer = None if lm_call is None else lm_call.content_by
    if left == 1:
        return outer
    ends = [end for end in (outer, state and state.deadline) if end is not None]
    if not ends:
        return None
    now = time.monotonic()
    share = 1 / left if group.share is None else group.share
    return now + share * max(0.0, min(ends) - now)


def name_earlier(error: Any, earlier: list[tuple[str, Any]]) -> None:
    """Adds the failures of the members before it to the message of an LM failure."""
    if earlier:
        named = (f"`{model}`: {type(failure).__name__}: {failure}" for model, failure in earlier)
        text = f" (before it failed {'; '.join(named)})"
        # As DSPy adds its hints.
        error.message = (error.message or "") + text
        if error.args and isinstance(error.args[0], str):
            error.args = (error.args[0] + text, *error.args[1:])
