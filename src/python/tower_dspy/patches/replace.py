"""Replacement of a library's attributes, and of those of modules that are not imported yet."""

from __future__ import annotations

import importlib.util
import sys
import threading
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
    else:
        sys.meta_path.insert(0, _AfterImport(name, change))


class _AfterImport(MetaPathFinder):
    """Finds one module as the others do, and has its loader call a function at the end."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._change = change
        # The threads that ask the other finders: any may look for the module meanwhile.
        self._finding: set[int] = set()

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        here = threading.get_ident()
        if name != self._name or here in self._finding:
            return None
        self._finding.add(here)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding.discard(here)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._change(module)

        spec.loader.exec_module = exec_module
        return spec
