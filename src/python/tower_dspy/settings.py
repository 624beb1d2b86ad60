"""Keeps `dspy.configure` of one program from reaching the others."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Its package exports an object of the same name, which hides the module from `import`.
dspy_settings = importlib.import_module("dspy.dsp.utils.settings")

# Kept for the life of a process that serves: DSPy's global lists of prompts stay off.
_ALWAYS = {"trace": None, "disable_history": True, "track_usage": False}


@contextmanager
def captured() -> Iterator[dict[str, Any]]:
    """Yields a dict that holds, at the end, what the block changed by `dspy.configure`.

    The global configuration is put back, and its ownership too, so that the next program may
    call `dspy.configure` at import as well.
    """
    config = dspy_settings.main_thread_config
    before = dict(config)
    changed: dict[str, Any] = {}
    try:
        yield changed
    finally:
        after = dict(config)
        changed.update(
            {
                key: value
                for key, value in after.items()
                if key not in before or before[key] is not value
            }
        )
        config.clear()
        config.update(before)
        dspy_settings.config_owner_thread_id = None
        dspy_settings.config_owner_async_task = None


def for_calls(changed: dict[str, Any]) -> dict[str, Any]:
    """The settings in which each call of a program runs."""
    return {**changed, **_ALWAYS}
