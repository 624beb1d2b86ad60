"""Modules that Python does not find: where it searched, and what to do about it."""

import contextlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator

from tower_dspy import advice

# The names under which packages are installed, where they are not those of their modules.
_PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "psycopg2": "psycopg2-binary",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# The folders of Python's own modules and of installed packages.
_INSTALLED = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
# The most subfolders that are searched for a module, in each folder of `sys.path`.
_MOST_FOLDERS = 200


def not_found(missing: str, target: str) -> str:
    """The problem of a target whose module `missing`, or a package of it, is not found."""
    name, _, attribute = target.partition(":")
    parent, _, last = missing.rpartition(".")
    folders = list(_folders())
    problem = f"there is no module `{missing}`"
    if parent:
        package = sys.modules.get(parent)
        found = list(getattr(package, "__path__", ()))
        if not found:
            return f"{problem}: `{parent}` is a module, and no package with modules in it"
        close = advice.meant(last, (one for folder in found for one in _modules(folder)))
        written = f"{parent}.{close}:{attribute}" if close else None
    else:
        written = _elsewhere(name, attribute, folders)
        if written is None:
            close = advice.meant(last, (one for folder in folders for one in _modules(folder)))
            rest = name.removeprefix(missing)
            written = f"{close}{rest}:{attribute}" if close else None
        found = folders
    hint = f"; did you mean `{written}`?" if written else "."
    return (
        f"{problem}{hint} Python searched {advice.listed(found)}, and the packages of "
        f"`{sys.prefix}`. Add the folder that holds it by `python_path`, or install it there"
    )


def missing(error: ModuleNotFoundError, target: str) -> str:
    """The problem of a program that imports a module which is not found."""
    top, _, rest = str(error.name).partition(".")
    if rest and top in sys.modules:
        return f"`{target}` imports `{error.name}`, which is not in the package `{top}`"
    problem = f"`{target}` imports `{top}`, which is not found (No module named '{error.name}')"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        folder = os.path.dirname(frame.f_code.co_filename)
        if os.path.isabs(folder) and top in _modules(folder):
            return (
                f"{problem}. `{folder}` has it, and Python does not search there: import it with "
                f'the name of its package, or add `python_path("{folder}")` to the host\'s settings'
            )
    package = _PACKAGES.get(top, top)
    python = os.path.join(sys.prefix, "bin", "python")
    return (
        f"{problem}. If it is a package, install it into the host's venv: "
        f"`uv pip install --python {python} {package}`, or `{python} -m pip install {package}`. If "
        "it is a module of yours, add its folder by `python_path`"
    )


def _folders() -> Iterator[str]:
    """The folders that Python searches besides its own and those of installed packages."""
    seen = set()
    for entry in sys.path:
        folder = os.path.realpath(entry or os.getcwd())
        is_own = f"{folder}{os.sep}".startswith(_INSTALLED) or not os.path.isdir(folder)
        if folder not in seen and not is_own:
            seen.add(folder)
            yield folder


def _modules(folder: str) -> list[str]:
    """The modules and packages in a folder, by their names."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name, extension = os.path.splitext(entry.name)
            if name.isidentifier() and (extension == ".py" or (not extension and entry.is_dir())):
                found.append(name)
    return found


def _elsewhere(name: str, attribute: str, folders: list[str]) -> str | None:
    """The target with the name of the subfolder that contains its module."""
    file = f"{name.replace('.', os.sep)}.py"
    for folder in folders:
        for inner in _modules(folder)[:_MOST_FOLDERS]:
            if os.path.isfile(os.path.join(folder, inner, file)):
                return f"{inner}.{name}:{attribute}"
    return None
