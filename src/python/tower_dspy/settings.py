"""Keeps `dspy.configure` of one program from reaching the others."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Its package exports an object of the same name, which hides the module from `import`.
dspy_settings = importlib.import_module("dspy.dsp.utils.settings")

# Kept for the life of a process that serves: DSPy's global lists of prompts stay off.
_ALWAYS = {"trace": None, "disable_history": True, "track_usage": False}


# No task and no thread is this owner, so `dspy.configure` is refused wherever a call runs.
_NOBODY = object()

# What a module configured when it was imported: it does so once, however often it is loaded.
_of_modules: dict[str, dict[str, Any]] = {}


@contextmanager
def captured(module: str) -> Iterator[dict[str, Any]]:
    """Yields a dict that holds, at the end, what the block changed by `dspy.configure`.

    `module` is what the block imports; if it was imported before, the dict begins with what it
    configured then. The global configuration is put back.
    """
    config = dspy_settings.main_thread_config
    before = dict(config)
    known = set(sys.modules)
    changed: dict[str, Any] = dict(_of_modules.get(module, {}))
    dspy_settings.config_owner_thread_id = None
    dspy_settings.config_owner_async_task = None
    try:
        yield changed
    finally:
        after = dict(config)
        new = {
            key: value
            for key, value in after.items()
            if key not in before or before[key] is not value
        }
        changed.update(new)
        for name in set(sys.modules) - known:
            _of_modules[name] = new
        config.clear()
        config.update(before)
        dspy_settings.config_owner_thread_id = threading.get_ident()
        dspy_settings.config_owner_async_task = _NOBODY


def for_calls(changed: dict[str, Any]) -> dict[str, Any]:
    """The settings in which each call of a program runs."""
    return {**changed, **_ALWAYS}
