"""The calls of a program's tools, which its host records: their names and times.

A tool of the host's own is recorded by the host, and the tools by which DSPy's agents end do not
count.
"""

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy

from tower_dspy.call_state import current_call
from tower_dspy.patches.replace import replace

# The host keeps no more of a name.
_NAME = 64

_numbers = itertools.count(1)


def install() -> None:
    """Installs the patch."""
    replace(dspy.Tool, "__call__", _sync)
    replace(dspy.Tool, "acall", _async)


def is_counted(tool: dspy.Tool) -> bool:
    """Whether a tool is the program's: not `finish` or `submit`, by which DSPy's agents end."""
    return not _module(tool).startswith("dspy.predict.")


def _module(tool: dspy.Tool) -> str:
    module = getattr(tool.func, "__module__", None)
    return module if isinstance(module, str) else ""


def _sync(call: Any) -> Any:
    @functools.wraps(call)
    def __call__(tool: Any, **arguments: Any) -> Any:
        with _recorded(tool):
            return call(tool, **arguments)

    return __call__


def _async(call: Any) -> Any:
    @functools.wraps(call)
    async def acall(tool: Any, **arguments: Any) -> Any:
        with _recorded(tool):
            return await call(tool, **arguments)

    return acall


@contextmanager
def _recorded(tool: Any) -> Iterator[None]:
    """The time of a tool's call."""
    state = current_call()
    if state is None or not is_counted(tool) or _module(tool) == "tower_dspy.host_tools":
        yield
        return
    number = next(_numbers)
    state.call.tool_began(number, str(tool.name)[:_NAME])
    failed = True
    try:
        yield
        failed = False
    finally:
        state.call.tool_ended(number, failed)
