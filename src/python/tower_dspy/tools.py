"""The tools of a program: Rust functions that it calls as `dspy.Tool`s."""

from __future__ import annotations

from typing import Any


class ToolError(Exception):
    """A tool failed; the message is that of its error."""


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
