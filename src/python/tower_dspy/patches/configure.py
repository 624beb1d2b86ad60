"""Isolation of `dspy.configure`: what one program configures does not reach the others."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Its package exports an object of the same name, which hides the module from `import`.
dspy_settings = importlib.import_module("dspy.dsp.utils.settings")


# The id of no thread. DSPy refuses `dspy.configure` of all threads but its owner.
_NO_THREAD = -1

# The configuration that each module made while it was imported.
_OF_MODULES: dict[str, dict[str, Any]] = {}


@contextmanager
def captured() -> Iterator[dict[str, Any]]:
    """Yields a dict that holds, at the end, what the block changed by `dspy.configure`.

    The global configuration is restored, so that the next program may call `dspy.configure` at
    import as well. Outside such a block DSPy refuses it: it would configure DSPy for all programs.
    """
    config = dspy_settings.main_thread_config
    before = dict(config)
    changed: dict[str, Any] = {}
    _set_owner(None)
    try:
        yield changed
    finally:
        for key, value in config.items():
            if key not in before or before[key] is not value:
                changed[key] = value
        config.clear()
        config.update(before)
        _set_owner(_NO_THREAD)


@contextmanager
def imported(module: str) -> Iterator[dict[str, Any]]:
    """As `captured`, for the import of a module, whose code runs the first time only.

    The configuration of a module holds for each of its programs and those of the modules that it
    imports; that of a package, for the modules in it.
    """
    known = set(sys.modules)
    parts = module.split(".")
    changed: dict[str, Any] = {}
    for length in range(1, len(parts) + 1):
        changed.update(_OF_MODULES.get(".".join(parts[:length]), {}))
    try:
        with captured() as now:
            yield changed
    finally:
        changed.update(now)
        for name in sys.modules.keys() - known:
            _OF_MODULES[name] = now


def _set_owner(thread: int | None) -> None:
    dspy_settings.config_owner_thread_id = thread
    dspy_settings.config_owner_async_task = None
