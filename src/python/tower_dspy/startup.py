"""Preparation of the interpreter before the first program is loaded."""

import contextlib
import gc
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def before_import() -> None:
    """Makes the settings that DSPy and its libraries read when they are imported."""
    # Importing asyncio installs Python's handler for SIGINT; Rust owns that signal here.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Without it the import of litellm fetches prices from the network, and hangs without one.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def extend_path(python_path: list[str], working_dir: str | None) -> None:
    """Puts the folders of programs first; without any, the working directory last."""
    sys.path[:0] = python_path
    # Last, so that no file there is imported in place of a package.
    if not python_path and working_dir is not None and working_dir not in sys.path:
        sys.path.append(working_dir)


def import_dspy(log: Any, is_debugged: Callable[[], bool]) -> list[str]:
    """Imports and patches DSPy; returns warnings of what works less well with its version.

    Python's log records go to `log`: all of them while `is_debugged` returns true.
    """
    dspy = _dspy()
    # Here, as `before_import` comes first.
    from tower_dspy import compat, patches, trace_context
    from tower_dspy.patches import litellm, log_records

    warnings = compat.check(dspy.__version__)

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.disable_logging()
    # Also asyncio's reports of failures that were never awaited: they may hold a prompt.
    for name in ("dspy", "tower_dspy", "asyncio", "concurrent.futures", *litellm.LOGGERS):
        logger = logging.getLogger(name)
        # Or its records would go to stderr, if a program did not configure logging.
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    # Those of Python's `warnings` are records of `py.warnings`.
    logging.captureWarnings(True)
    log_records.install(log, is_debugged)
    patches.install()
    return [*warnings, *trace_context.install()]


def _dspy() -> Any:
    """Imports DSPy; raises an error that names the file that is imported in place of a package."""
    try:
        import dspy

        # Else it is another module, or a folder, of that name.
        dspy.__version__, dspy.__path__  # noqa: B018
    except (ImportError, AttributeError) as error:
        files = _shadowing()
        if files:
            raise RuntimeError(
                f"{', '.join(f'`{file}`' for file in files)} may be imported in place of the "
                "module of that name, as its folder is searched before the venv: rename it, or "
                "name a folder by `python_path` that has programs alone"
            ) from error
        if os.environ.get("PYTHONPATH"):
            error.add_note(
                f"$PYTHONPATH is `{os.environ['PYTHONPATH']}`: its folders are searched before the "
                "venv. If they have packages of another Python, unset it."
            )
        raise
    return dspy


def _shadowing() -> list[str]:
    """Files that are searched before the standard library, named as its modules or as DSPy."""
    library = os.path.dirname(os.__file__)
    names = sys.stdlib_module_names | {"dspy"}
    found = []
    for folder in itertools.takewhile(lambda folder: folder != library, sys.path):
        with contextlib.suppress(OSError):
            found += [
                os.path.join(folder, name)
                for name in sorted(os.listdir(folder))
                if name.removesuffix(".py") in names
                and (
                    name.endswith(".py")
                    or os.path.isfile(os.path.join(folder, name, "__init__.py"))
                )
            ]
    return found


# CPython's defaults up to 3.12, and from 3.13 on. The incremental collector of 3.14 has others.
_DEFAULT_THRESHOLDS = ((700, 10, 10), (2000, 10, 10))


def calm_gc() -> None:
    """Excludes the imported modules from garbage collection, and makes it less frequent.

    Each collection would visit all of DSPy's modules, which are never garbage; with the default
    thresholds that took a fifth of the loop's time. The older generations are small without those
    modules, and collected soon: a call that was under way during a collection, and failed later,
    may have left cycles there. Thresholds that were changed are kept.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() in _DEFAULT_THRESHOLDS:
        gc.set_threshold(10_000, 5, 5)
