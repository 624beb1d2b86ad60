"""The packages that a program needs and that DSPy imports on first use: litellm and numpy.

litellm takes some seconds to import. The first call of a program would pay for that, and all other
calls would wait for the loop meanwhile. Which programs need it is found without running them: by
the LMs and the embedders that they hold, or that their code names. An LM or an embedder that a
program makes while it runs is not found.
"""

import functools
import itertools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dspy
from dspy.clients import embedding
from dspy.clients._litellm import get_litellm
from dspy.clients.backend_selection import select_backend

from tower_dspy.faults import HostError

# The objects that are visited, and those of one container: an index may hold a million texts.
_MOST, _MOST_ITEMS = 10_000, 1_000
_PLAIN = str | bytes | bytearray | int | float | complex | None
_CONTAINERS = list | tuple | set | frozenset
# Packages whose code names nothing of a program.
_LIBRARIES = {"dspy", "litellm", "numpy", "openai", "pydantic", "tower_dspy"}


def missing(target: str, roots: Iterable[Any], configs: Any) -> Callable[[], None] | None:
    """The import of the packages that are needed and not imported yet; None if there are none.

    It needs no loop, and raises HostError for a package that is not installed. `roots` are the
    program and the LMs and embedders that it configured, `configs` those of the host's LMs.
    """
    found = [*_reachable(roots), *map(_configured, configs)]
    embedders = [one for one in found if isinstance(one, dspy.Embedder)]
    hosted = any(isinstance(embedder.model, str) for embedder in embedders)
    imports = []
    if embedders and not _is_imported("numpy"):
        imports.append(functools.partial(_import_numpy, target))
    if (hosted or any(map(_is_litellms, found))) and not _is_imported("litellm"):
        imports.append(functools.partial(_import_litellm, target))

    def import_all() -> None:
        for import_package in imports:
            import_package()

    return import_all if imports else None


def _is_imported(name: str) -> bool:
    """Whether a package is imported to its end; another thread may be importing it."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name in sys.modules and not getattr(spec, "_initializing", False)


def _import_numpy(target: str) -> None:
    try:
        embedding.np.ndarray  # noqa: B018, imports it
    except ImportError as error:
        raise HostError(
            "package",
            f"`{target}` has a dspy.Embedder, which needs numpy, and numpy is not installed: "
            "pip install numpy",
        ) from error


def _import_litellm(target: str) -> None:
    try:
        get_litellm(feature=f"`{target}`")
    except ImportError as error:
        raise HostError("package", str(error)) from error


def _configured(config: dict[str, Any]) -> dspy.LM | None:
    """The LM of a host's configuration, to ask whose client it needs."""
    try:
        lm = dspy.LM(config["model"], **config.get("options", {}))
    except Exception:  # the load reports it
        return None
    if config.get("base_url"):
        lm.kwargs["api_base"] = config["base_url"]
    return lm


def _is_litellms(lm: Any) -> bool:
    """Whether DSPy calls this LM by litellm."""
    if not isinstance(lm, dspy.LM) or not isinstance(lm.engine, str):
        return False
    try:
        return not select_backend(lm).native
    except Exception:  # its load or its call reports it
        return False


def _reachable(roots: Iterable[Any]) -> Iterator[Any]:
    """The LMs and embedders that these objects hold, or that their code names."""
    seen: dict[int, Any] = {}
    waiting = deque(roots)
    while waiting and len(seen) < _MOST:
        value = waiting.popleft()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value  # referenced, so that its id stays unique
        if isinstance(value, dspy.Embedder | dspy.BaseLM):
            yield value
        else:
            waiting += itertools.islice(_parts(value), _MOST_ITEMS)


def _parts(value: Any) -> Iterator[Any]:
    """The objects that one holds, and those that its code names. Runs no code of the program."""
    match value:
        case dict():
            yield from value.values()
        case list() | tuple() | set() | frozenset():
            yield from value
        case types.ModuleType():
            pass
        case types.FunctionType():
            yield from _named(value.__code__, value.__globals__)
            yield from value.__defaults__ or ()
            for cell in value.__closure__ or ():
                if cell != types.CellType():  # an empty one
                    yield cell.cell_contents
        case types.MethodType():
            yield from (value.__self__, value.__func__)
        case staticmethod() | classmethod():
            yield value.__func__
        case property():
            yield value.fget
        case functools.partial():
            yield from (value.func, value.args, value.keywords)
        case type():
            for owner in value.__mro__:
                if _is_programs(owner.__module__):
                    yield from vars(owner).values()
        case _:
            yield type(value)
            yield from getattr(value, "__dict__", {}).values()


def _named(code: types.CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """The globals that code names, and the attributes that it names of modules."""
    known = set(_names(code))
    for name in known & names.keys():
        value = names[name]
        if not isinstance(value, types.ModuleType):
            yield value
        elif _is_programs(value.__name__):
            inside = vars(value)
            yield from (inside[attribute] for attribute in known & inside.keys())


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_programs(module: str) -> bool:
    root = module.partition(".")[0]
    return root not in sys.stdlib_module_names and root not in _LIBRARIES
