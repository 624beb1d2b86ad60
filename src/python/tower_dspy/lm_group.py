"""LMs that are made of several, see patches/failover.py."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# The attribute of an LM that is made of several; copies of the LM have it too.
_GROUP = "_tower_dspy_group"
# The attribute of a copy of such an LM with the names of the options that the program gave to it.
_GIVEN = "_tower_dspy_given"


@dataclass(frozen=True, eq=False)
class LmGroup:
    """The members of an LM, and how they are combined."""

    members: list[Any]
    # Of the time left, for a member but the last; None for an even one.
    share: float | None
    # The seconds after which the second member runs beside the first; None in a fallback.
    hedge_after: float | None

    def __deepcopy__(self, _: Any) -> "LmGroup":
        return self


def combine(members: list[Any], config: dict[str, Any]) -> Any:
    """The LM that a program has for these: a copy of the first, with all of them."""
    lm = members[0].copy()
    setattr(lm, _GROUP, LmGroup(members, config.get("share"), config.get("hedge_after")))
    return lm


def group_of(lm: Any) -> LmGroup | None:
    """The group that an LM is made of; None if it is of one."""
    group = getattr(lm, _GROUP, None)
    # A program may have made a copy that is of another model.
    return group if group is not None and lm.model == group.members[0].model else None


def note_given(copied: Any, original: Any, names: Iterable[str]) -> None:
    """Adds the options among the names that the program gave to the copy of an LM."""
    if hasattr(original, _GROUP):
        options = {name for name in names if name in original.kwargs or not hasattr(original, name)}
        setattr(copied, _GIVEN, given_options(original) | options)


def given_options(lm: Any) -> frozenset[str]:
    """The names of the options that the program gave to copies, of which this LM is the last."""
    return getattr(lm, _GIVEN, frozenset())


def ungrouped(lm: Any) -> Any:
    """The LM of a group as its first member alone, with what a program changed on it."""
    single = copy.copy(lm)
    vars(single).pop(_GROUP, None)
    return single


def single_lms(lm: Any) -> Iterator[Any]:
    """The LMs that an LM is made of, or the LM itself."""
    group = getattr(lm, _GROUP, None)
    if group is None:
        yield lm
    else:
        for member in group.members:
            yield from single_lms(member)


def single_configs(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configurations of the LMs that one of the host's is made of."""
    members = config.get("members")
    if members is None:
        yield config
    else:
        for member in members:
            yield from single_configs(member)
