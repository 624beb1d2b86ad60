import ast
from collections.abc import Iterator
from pathlib import Path

import tower_dspy
from tower_dspy import bootstrap

PACKAGE = Path(tower_dspy.__file__).parent


def modules() -> dict[str, Path]:
    files = {
        ".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in PACKAGE.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): file for name, file in files.items()}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("tower_dspy.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("tower_dspy."):
            parent = f"{node.module}.".removeprefix("tower_dspy.")
            names = [parent + alias.name for alias in node.names]
            yield from (name if name in modules() else parent.rstrip(".") for name in names)


def test_each_module_imports_from_lower_floors_alone():
    lines = [line for line in bootstrap.__doc__.splitlines() if line.startswith("    ")]
    floors = {name.strip(): n for n, line in enumerate(lines) for name in line.split(",")}
    assert sorted(floors) == sorted(modules())
    for name, file in modules().items():
        for other in set(imports(file)) - {name}:
            # A library's name is on no floor.
            assert floors.get(other, len(lines)) > floors[name], f"{name} imports {other}"
