"""Imports in which no interrupt is raised.

A module whose import is cut short stays broken for all later calls of the process.
"""

import functools
import importlib

from tower_dspy.interrupt import shielded
from tower_dspy.patches.replace import replace


def install() -> None:
    """Shields the import of each module that is not imported yet."""
    replace(importlib._bootstrap, "_find_and_load", lambda find: functools.partial(shielded, find))
