"""The packages that programs need, found without running them, and imported while calls go on."""

import functools
import importlib
import importlib.machinery
import sys
import types
from collections import deque
from pathlib import Path

import dspy
import pytest
from conftest import in_a_process

from tower_dspy import packages

hosted = dspy.Embedder("openai/text-embedding-3-small")
local = dspy.Embedder(lambda texts: [[0.0] for _ in texts])
judge = dspy.LM("mistral/small", api_key="unused")
helpers = types.ModuleType("helpers")
helpers.embedder = hosted


class Index:
    def __init__(self, embedder: dspy.Embedder) -> None:
        self.texts = ["a"] * 5
        self._embedders = {"usual": [embedder]}


def _search(text: str):
    return hosted(text)


class Names(dspy.Module):
    async def aforward(self, text: str):
        return hosted(text)


class NamesByFunction(dspy.Module):
    async def aforward(self, text: str):
        return [_search(word) for word in text.split()]


class NamesByModule(dspy.Module):
    async def aforward(self, text: str):
        return await helpers.embedder.acall(text)


class Holds(dspy.Module):
    def __init__(self, value) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.value = value

    async def aforward(self, text: str):
        return self.value


class HoldsInside(Holds):
    def __init__(self, value) -> None:
        super().__init__(None)
        self.inside = Holds(value)


async def asks(text: str):
    return await hosted.acall(text)


async def pure(text: str):
    return text


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """None of the packages is imported; returns the list of those that then are."""
    imported: list[str] = []
    for name in ("litellm", "numpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(packages, f"_import_{name}", lambda _, name=name: imported.append(name))
    monkeypatch.setattr(packages, "_try", lambda _: None)
    return imported


@pytest.fixture
def tower_rag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A package whose submodules have an embedder, and programs that name it."""
    folder = tmp_path / "site-packages" / "tower_rag"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "search.py").write_text("import dspy\nembedder = dspy.Embedder('openai/e')\n")
    (folder / "programs.py").write_text(_PROGRAMS)
    monkeypatch.syspath_prepend(folder.parent)
    try:
        yield importlib.import_module("tower_rag.programs")
    finally:
        for name in [name for name in sys.modules if name.startswith("tower_rag")]:
            del sys.modules[name]


_PROGRAMS = """
import tower_rag.search

async def by_submodule(text: str):
    return await tower_rag.search.embedder.acall(text)

async def by_import_of_submodule(text: str):
    import tower_rag.search
    return await tower_rag.search.embedder.acall(text)

async def by_import_from_package(text: str):
    from tower_rag import search
    return await search.embedder.acall(text)

async def by_import_from_submodule(text: str):
    from tower_rag.search import embedder
    return await embedder.acall(text)

async def by_relative_import(text: str):
    from .search import embedder
    return await embedder.acall(text)

class Holds:
    by_class = tower_rag.search.embedder
"""


@pytest.mark.parametrize(("model", "is_tried"), [("mistral/small", True), ("bedrock/small", False)])
def test_an_lm_of_litellm_is_tried_with_the_import(monkeypatch, model, is_tried):
    imported, tried = [], []
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    monkeypatch.setattr(packages, "_import_litellm", imported.append)
    monkeypatch.setattr(packages.lm_address, "requested", tried.append)
    own = dspy.LM(model, api_key="its-own", callbacks=[object()])
    _imports(Holds(own))
    assert imported == ["a:Program"]
    assert [(lm.model, lm.kwargs["api_key"], lm.callbacks) for lm in tried] == (
        [(model, "unused", [])] if is_tried else []
    )
    assert own.callbacks


def _imports(root, *configs) -> None:
    import_all = packages.missing("a:Program", (root,), configs)
    if import_all is not None:
        import_all()


@pytest.mark.parametrize(
    "root",
    [
        Holds(hosted),
        Holds(Index(hosted)),
        HoldsInside((hosted,)),
        Holds(functools.partial(print, hosted)),
        Holds(lambda text: hosted(text)),
        Names(),
        NamesByFunction(),
        NamesByModule(),
        asks,
        {"rm": hosted},
    ],
)
def test_an_embedder_over_http_needs_numpy_and_litellm(root, not_imported):
    _imports(root)
    assert not_imported == ["numpy", "litellm"]


@pytest.mark.parametrize(
    "name",
    [
        "by_submodule",
        "by_import_of_submodule",
        "by_import_from_package",
        "by_import_from_submodule",
        "by_relative_import",
        "Holds",
    ],
)
def test_an_embedder_of_a_submodule_is_found(name, tower_rag, not_imported):
    target = f"tower_rag.programs:{name}"
    import_all = packages.missing(target, (getattr(tower_rag, name),), ())
    assert import_all is not None
    import_all()
    assert not_imported == ["numpy", "litellm"]
    # Its code is that of an installed library for any other program.
    assert packages.missing("a:Program", (getattr(tower_rag, name),), ()) is None


def test_an_embedder_of_a_function_needs_numpy_alone(not_imported):
    _imports(Holds(local))
    assert not_imported == ["numpy"]


@pytest.mark.parametrize(
    ("root", "config"),
    [
        (Holds(judge), {"model": "openai/m"}),
        ({"lm": judge}, {"model": "openai/m"}),
        (Holds(1), {"model": "mistral/small"}),
        (Holds(1), {"model": "openai/m", "options": {"headers": {"x": "y"}}}),
    ],
)
def test_an_lm_that_dspys_own_client_does_not_speak_to_needs_litellm(root, config, not_imported):
    _imports(root, config)
    assert not_imported == ["litellm"]


def test_other_programs_need_none(not_imported):
    own = dspy.LM("anthropic/m", api_key="unused")
    config = {"model": "openai/m", "base_url": "http://lm/v1", "options": {}}
    for root in (Holds(own), dspy.ReAct("question -> answer", tools=[print]), pure):
        assert packages.missing("a:Program", (root,), [config]) is None
    # Refused when it is loaded.
    assert packages.missing("a:Program", (), [{"model": 3}]) is None
    assert not_imported == []


def test_packages_that_are_imported_are_not_imported_again():
    assert "litellm" in sys.modules or packages._import_litellm("a") is None
    assert packages.missing("a:Program", (judge,), ()) is None


def test_a_package_that_another_thread_is_importing_is_waited_for(not_imported, monkeypatch):
    for name in ("litellm", "numpy"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__spec__._initializing = True
        monkeypatch.setitem(sys.modules, name, module)
    _imports(Holds(hosted))
    assert not_imported == ["numpy", "litellm"]


_WHILE_IT_IS_IMPORTED = """
import sys
import threading
from tower_dspy import packages, startup

startup.before_import()
config = {"model": "mistral/small", "options": {}}
first = threading.Thread(target=packages.missing("a:Program", (), [config]))
first.start()
while "litellm" not in sys.modules:
    pass
second = packages.missing("b:Program", (), [config])
second()
first.join()
print(packages.missing("c:Program", (), [config]))
"""


def test_the_import_of_another_thread_is_seen_in_pythons_own_state():
    assert in_a_process(_WHILE_IT_IS_IMPORTED) == "None\n"


def _runs(*_):
    raise AssertionError("it runs")


class Property:
    value = property(_runs)
    __getattr__ = _runs


class Proxy:
    """As those of Flask and Werkzeug, which fail outside of their context."""

    __class__ = property(_runs)
    __dict__ = property(_runs)
    __getattribute__ = _runs


class LazyMapping(dict):
    __iter__ = __getitem__ = get = keys = values = items = _runs


class LazyList(list):
    __iter__ = __getitem__ = __len__ = _runs


class LazyModule(types.ModuleType):
    __getattribute__ = _runs


class Meta(type):
    __getattribute__ = __eq__ = _runs
    __hash__ = type.__hash__


class Slots:
    __slots__ = ("empty", "value")

    def __init__(self, value) -> None:
        self.value = value


def _named_module() -> types.FunctionType:
    names = {"module": LazyModule("module")}
    return types.FunctionType((lambda: module.embedder).__code__, names)  # noqa: F821


@pytest.mark.parametrize(
    "make",
    [
        Property,
        Proxy,
        lambda: LazyMapping(a=1),
        lambda: LazyList([1]),
        lambda: LazyModule("module"),
        _named_module,
        lambda: Meta("OfMeta", (), {}),
        lambda: Meta("OfMeta", (), {})(),
    ],
)
def test_runs_no_code(make, not_imported):
    value = make()
    assert packages.missing("a:Program", (Holds(value),), ()) is None
    # What is beside it is found.
    assert packages.missing("a:Program", (Holds([value, hosted]),), ()) is not None


@pytest.mark.parametrize(
    "value",
    [LazyMapping(a=hosted), LazyList([hosted]), Slots(hosted), deque([hosted])],
    ids=["dict", "list", "slots", "deque"],
)
def test_an_embedder_in_an_unusual_container_is_found(value, not_imported):
    _imports(Holds(value))
    assert not_imported == ["numpy", "litellm"]


_WITHOUT_NUMPY = """
import importlib.util
import sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "numpy" else find(name, *package)
import dspy
from tower_dspy import packages
from tower_dspy.faults import HostError
try:
    packages.missing("a:Program", (dspy.Embedder("openai/e"),), ())()
except HostError as error:
    print(error.kind, error, "litellm" in sys.modules)
"""


def test_a_package_that_is_not_installed_is_named_before_another_is_imported():
    said = in_a_process(_WITHOUT_NUMPY)
    assert said.startswith("package `a:Program` has a dspy.Embedder, which needs numpy")
    assert said.endswith("False\n")
