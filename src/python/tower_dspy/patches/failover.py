"""LM calls of an LM that is made of several, of which one member answers for another.

DSPy prepares the call anew for the member that takes over: with the options of that LM, and with
those that the program gave to the call or to its copy of the LM. So the request may be of another
dialect, and the history, the usage and the cost are those of the member that answered.

A member but the last has a share of the time left until its first content, which the host enforces.
"""

import functools
from collections.abc import Iterator
from typing import Any

import dspy
from dspy.clients import execution
from dspy.clients import lm as lm_module

from tower_dspy.lm_call import CURRENT_LM_CALL
from tower_dspy.lm_group import LmGroup, group_of, note_given
from tower_dspy.lm_members import MemberCall, content_by, name_earlier
from tower_dspy.lm_race import hedge, hedge_async
from tower_dspy.patches.replace import replace


def install() -> None:
    """Installs the patch."""
    replace(execution, "execute", _sync)
    replace(execution, "aexecute", _async)
    replace(dspy.LM, "copy", _with_names)
    for module in (execution, lm_module):
        replace(module, "stream_emitted", _with_mark)


def _sync(execute: Any) -> Any:
    @functools.wraps(execute)
    def execute_members(lm: Any, call: Any) -> Any:
        group = group_of(lm)
        if group is None:
            return execute(lm, call)
        if _is_raced(group):
            return hedge(execute_members, lm, call, group)
        earlier = []
        for left, member in _turns(group):
            member_call = MemberCall(lm, call, member, content_by(group, left))
            try:
                result = member_call.run(execute_members)
            except dspy.LMError as error:
                if left == 1 or not member_call.may_be_replaced(error):
                    member_call.failed()
                    name_earlier(error, earlier)
                    raise
                earlier.append((member.model, error))
            else:
                member_call.answered()
                return result

    return execute_members


def _async(execute: Any) -> Any:
    @functools.wraps(execute)
    async def execute_members(lm: Any, call: Any) -> Any:
        group = group_of(lm)
        if group is None:
            return await execute(lm, call)
        if _is_raced(group):
            return await hedge_async(execute_members, lm, call, group)
        earlier = []
        for left, member in _turns(group):
            member_call = MemberCall(lm, call, member, content_by(group, left))
            try:
                result = await member_call.run_async(execute_members)
            except dspy.LMError as error:
                if left == 1 or not member_call.may_be_replaced(error):
                    member_call.failed()
                    name_earlier(error, earlier)
                    raise
                earlier.append((member.model, error))
            else:
                member_call.answered()
                return result

    return execute_members


def _is_raced(group: LmGroup) -> bool:
    """Whether the second member runs beside the first.

    Not in DSPy's own stream, which takes the chunks of all that run.
    """
    return group.hedge_after is not None and dspy.settings.send_stream is None


def _turns(group: LmGroup) -> Iterator[tuple[int, Any]]:
    """The members, each with the count of those that are left with it."""
    counts = range(len(group.members), 0, -1)
    return zip(counts, group.members, strict=True)


def _with_names(copy: Any) -> Any:
    """A copy of an LM that is made of several keeps which options it was given."""

    @functools.wraps(copy)
    def copy_with_names(lm: Any, **options: Any) -> Any:
        copied = copy(lm, **options)
        note_given(copied, lm, options)
        return copied

    return copy_with_names


def _with_mark(emitted: Any) -> Any:
    """DSPy's own stream has content: no other member may answer."""

    @functools.wraps(emitted)
    def stream_emitted() -> None:
        lm_call = CURRENT_LM_CALL.get()
        if lm_call is not None:
            lm_call.is_shown = True
        emitted()

    return stream_emitted
