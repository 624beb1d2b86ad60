"""The target of a load: what a name stands for, and the program that is made of it."""

import contextlib
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

import dspy

from tower_dspy import advice, search_path
from tower_dspy.faults import HostError, host_error

_FORMS = (
    "name a dspy.Module class or instance, a function that returns one, a dspy.Signature, or an "
    "async function"
)


def find(spec: dict[str, Any]) -> Any:
    """What the target of a load stands for."""
    target = spec["target"]
    if spec.get("source") is not None:
        module = types.ModuleType(spec["module"])
        module.__file__ = f"<{target}>"
        sys.modules[module.__name__] = module
        with _imports(target):
            exec(compile(spec["source"], module.__file__, "exec"), module.__dict__)
        return _attribute(module, spec["attribute"])
    if "->" in target:
        with host_error("signature", f"`{target}` is not a signature"):
            return dspy.Signature(target)
    name, _, attribute = target.partition(":")
    with _imports(target):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            # Of the module itself or one of its packages, and not of an import inside it.
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            problem = search_path.not_found(error.name, target)
            raise HostError("not_found", problem) from error
    return _attribute(module, attribute)


def build(found: Any, target: str, tools: list[dspy.Tool]) -> Any:
    """The program, or the async function, of what a target stands for."""
    if isinstance(found, dspy.Module) or inspect.iscoroutinefunction(found):
        return found
    if isinstance(found, type):
        if issubclass(found, dspy.Signature):
            return dspy.ReAct(found, tools=tools) if tools else dspy.Predict(found)
        if not issubclass(found, dspy.Module):
            raise HostError(
                "not_a_program",
                f"`{target}` is a class, but no dspy.Module: make it one by "
                f"`class {found.__name__}(dspy.Module)`, or name a function that returns one",
            )
    elif not callable(found):
        kind = type(found).__name__
        raise HostError(
            "not_a_program", f"`{target}` is a {kind}, not a module or a factory: {_FORMS}"
        )
    _check_needs_nothing(found, target)
    with _imports(target):
        built = found()
    if not isinstance(built, dspy.Module):
        raise HostError(
            "not_a_program",
            f"`{target}` returned a {type(built).__name__}, not a dspy.Module: return one, or make "
            "it an `async def` if the function itself is the program",
        )
    return built


def check_async(found: Any, target: str) -> None:
    """Rejects a target that is no async function."""
    if not inspect.iscoroutinefunction(found):
        raise HostError(
            "not_a_program", f"`{target}` is not an async function: make it one by `async def`"
        )


def _check_needs_nothing(found: Any, target: str) -> None:
    """Rejects a class or a factory that cannot be called without arguments."""
    try:
        # A class of DSPy's has a metaclass that takes any arguments.
        called = functools.partial(found.__init__, None) if isinstance(found, type) else found
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # there is none, as of some in C
        return
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if not needed:
        return
    if isinstance(found, type):
        raise HostError(
            "not_a_program",
            f"`{target}` takes {advice.listed(needed)} when it is made, and a host makes it "
            "without arguments: give them defaults, or name a function without parameters that "
            "returns it",
        )
    raise HostError(
        "not_a_program",
        f"`{target}` is a sync function with {advice.listed(needed)}, and a host calls it without "
        "arguments, for the dspy.Module that it returns: if it is the program itself, make it an "
        "`async def`, or the `forward` of a dspy.Module",
    )


def _attribute(module: types.ModuleType, path: str) -> Any:
    owner: Any = module
    walked: list[str] = []
    for name in path.split("."):
        try:
            owner = getattr(owner, name)
        except AttributeError as error:
            names = _own_names(owner, module.__name__)
            close = advice.meant(name, names)
            did_you_mean = f"; did you mean `{'.'.join((*walked, close))}`?" if close else "."
            has = f" It has {advice.listed(names)}" if names else ""
            where = f" in `{'.'.join(walked)}`" if walked else ""
            raise HostError(
                "not_found", f"`{module.__name__}` has no `{path}`{did_you_mean}{has}{where}"
            ) from error
        walked.append(name)
    return owner


def _own_names(owner: Any, module: str) -> list[str]:
    """The names in a module or a class that may be meant: those of its own code."""
    found = getattr(owner, "__dict__", {})
    return [
        name
        for name, value in found.items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", module) == module
    ]


@contextlib.contextmanager
def _imports(target: str) -> Iterator[None]:
    """Has a module that the program imports, and that is missing, reported with the remedy."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        raise HostError("package", search_path.missing(error, target)) from error
