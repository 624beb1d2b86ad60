"""The objects that a program reaches: those that it holds, and those that its code names.

They are found without running any code of the program: no property, no `__getattr__` and no method
of a subclass of a container. So a type is read by `type(value)`, as `isinstance` also reads the
`__class__` of a proxy, and an attribute by the descriptor of the builtin class that has it.
"""

import contextlib
import functools
import itertools
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

# The objects that are visited, and those of one container: an index may hold a million texts.
_MOST, _MOST_ITEMS = 10_000, 1_000
_PLAIN = (str, bytes, bytearray, int, float, complex, type(None))
_CONTAINERS = (list, tuple, set, frozenset, deque)
# What objects of these classes hold.
_HELD = {
    types.FunctionType: ("__defaults__", "__kwdefaults__", "__closure__"),
    types.CellType: ("cell_contents",),
    types.MethodType: ("__self__", "__func__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget",),
    functools.partial: ("func", "args", "keywords"),
}
_attributes_of_class = vars(type)["__dict__"].__get__
_attributes_of_module = vars(types.ModuleType)["__dict__"].__get__
_bases = vars(type)["__mro__"].__get__

# Packages whose code names nothing of a program, and the folders of such packages.
_LIBRARIES = {"dspy", "litellm", "numpy", "openai", "pydantic", "tower_dspy"}
_FOLDERS = ("site-packages", "dist-packages")


def reachable(roots: Iterable[Any], classes: tuple[type, ...], module: str) -> Iterator[Any]:
    """The objects of these classes that the roots reach, each once.

    `module` is that of the program: its package is no library, also where it is installed as one.
    """
    package = module.partition(".")[0]
    seen: dict[int, Any] = {}
    waiting = deque(roots)
    while waiting and len(seen) < _MOST:
        value = waiting.popleft()
        if issubclass(type(value), _PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value  # referenced, so that its id stays unique
        if issubclass(type(value), classes):
            yield value
            continue
        # What cannot be read, as a dict that a thread changes meanwhile, is not found.
        with contextlib.suppress(Exception):
            waiting += itertools.islice(_parts(value, package), _MOST_ITEMS)


def _parts(value: Any, package: str) -> Iterator[Any]:
    """The objects that one holds, and those that its code names."""
    kind = type(value)
    for owner, names in _HELD.items():
        if issubclass(kind, owner):
            for name in names:
                with contextlib.suppress(ValueError):  # an empty cell
                    yield vars(owner)[name].__get__(value)
            break
    else:
        yield from _parts_of_object(value, kind, package)
    if kind is types.FunctionType:
        names = value.__globals__
        if _is_programs(dict.get(names, "__name__"), package):
            yield from _named(value.__code__, names, package)


def _parts_of_object(value: Any, kind: type, package: str) -> Iterator[Any]:
    if issubclass(kind, types.ModuleType):
        return
    if issubclass(kind, type):
        for owner in _bases(value):
            attributes = _attributes_of_class(owner)
            if _is_programs(attributes.get("__module__"), package):
                yield from attributes.values()
        return
    if issubclass(kind, dict):
        yield from dict.values(value)
    for container in _CONTAINERS:
        if issubclass(kind, container):
            yield from container.__iter__(value)
    yield kind
    for owner in _bases(kind):
        attributes = _attributes_of_class(owner)
        if type(attributes.get("__dict__")) is types.GetSetDescriptorType:
            yield from dict.values(attributes["__dict__"].__get__(value))
        for slot in attributes.values() if "__slots__" in attributes else ():
            if type(slot) is types.MemberDescriptorType:
                with contextlib.suppress(AttributeError):  # an empty one
                    yield slot.__get__(value)


def _named(code: types.CodeType, names: dict[str, Any], package: str) -> Iterator[Any]:
    """The globals that code names, and the attributes that it names of modules."""
    known = set(_names(code))
    modules = [*_imported(known, dict.get(names, "__package__"))]
    seen = {id(names)}
    while True:
        for name in known & dict.keys(names):
            value = dict.get(names, name)
            if issubclass(type(value), types.ModuleType):
                modules.append(value)
            else:
                yield value
        # The next one, which may be a submodule.
        while modules:
            names = _attributes_of_module(modules.pop())
            if id(names) not in seen and _is_programs(names.get("__name__"), package):
                seen.add(id(names))
                break
        else:
            return


def _imported(known: set[str], package: str | None) -> Iterator[types.ModuleType]:
    """The modules that code names in its own `import` statements, if they are imported already."""
    parents = itertools.accumulate((package or "").split("."), "{}.{}".format)
    for prefix in ("", *(f"{parent}." for parent in parents)):
        for name in known:
            module = sys.modules.get(prefix + name)
            if issubclass(type(module), types.ModuleType):
                yield module


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_programs(module: Any, package: str) -> bool:
    """Whether the code of this module may be that of a program, and not of a library."""
    if not issubclass(type(module), str):
        return True
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or root in _LIBRARIES:
        return False
    known = sys.modules.get(module)
    if root == package or not issubclass(type(known), types.ModuleType):
        return True
    file = _attributes_of_module(known).get("__file__")
    return not (isinstance(file, str) and any(f"/{folder}/" in file for folder in _FOLDERS))
