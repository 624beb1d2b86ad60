"""What the interpreter that runs programs says of itself, for a doctor."""

import asyncio
import importlib.metadata
import os
import platform
import sys
import sysconfig
import threading

import dspy


async def about() -> dict:
    """Its versions, its folders, and what may become a problem in it."""
    return {
        "python": platform.python_version(),
        "dspy": dspy.__version__,
        "dspy_file": dspy.__file__ or "",
        "prefix": sys.prefix,
        "path": sys.path,
        "hiding": await asyncio.to_thread(_hiding),
        "proc_error": _proc_error(),
    }


def _hiding() -> list[str]:
    """Files and folders of programs that hide a module of Python or an installed package."""
    standard = os.path.realpath(sysconfig.get_paths()["stdlib"])
    packages = set(importlib.metadata.packages_distributions())
    known = (packages | sys.stdlib_module_names) - {"__pycache__"}
    found = []
    for folder in sys.path:
        if os.path.realpath(folder) == standard:
            break
        if os.path.realpath(folder).startswith(os.path.realpath(sys.prefix) + os.sep):
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in sorted(names):
            path = os.path.join(folder, name)
            is_package = os.path.isfile(os.path.join(path, "__init__.py"))
            stem = name.removesuffix(".py")
            if stem in known and (is_package or (stem != name and os.path.isfile(path))):
                found.append(path)
    return found


def _proc_error() -> str | None:
    """Why the system calls of threads cannot be read, if so."""
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/syscall", "rb") as syscall:
            syscall.read(1)
    except OSError as error:
        return str(error)
    return None
