"""Replacement of a library's attributes, and of those of modules that are not imported yet."""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_REPLACED = "_tower_dspy_replaced"


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Sets `owner.name` to what `make` returns for its value, once."""
    value = getattr(owner, name)
    if hasattr(value, _REPLACED):
        return
    replacement = make(value)
    setattr(replacement, _REPLACED, True)
    setattr(owner, name, replacement)


def when_imported(name: str, change: Callable[[ModuleType], None]) -> None:
    """Calls `change` with a module once it is imported: now, if it is."""
    if name in sys.modules:
        change(sys.modules[name])
        return
    finders = [one for one in sys.meta_path if isinstance(one, _AfterImport) and one.name == name]
    if not finders:
        finders = [_AfterImport(name)]
        sys.meta_path[:0] = finders
    finders[0].changes.append(change)


class _AfterImport(MetaPathFinder):
    """Finds one module as the others do, and has its loader call functions at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: list[Callable[[ModuleType], None]] = []

    def find_spec(self, name: str, *location: Any) -> ModuleSpec | None:
        if name != self.name:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, *location) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for change in self.changes:
                change(module)

        spec.loader.exec_module = exec_module
        return spec
