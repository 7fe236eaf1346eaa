"""The layout of the product: no import cycle, no logic in packages, pure modules without heavy imports, short files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "machine_learning_engineering": ROOT / "mle_package",
    "inflight": ROOT,
    "model": ROOT,
    "monitoring": ROOT,
    "producers": ROOT,
    "stream_app": ROOT,
}
MAX_LINES = 320
MAX_INIT_LINES = 20
HEAVY = ["sklearn", "pydantic", "pandas", "pyarrow", "confluent_kafka"]
PURE = {
    "stream_app.serving.scorer": ["faust", "confluent_kafka", "aiokafka"],
    "machine_learning_engineering.training.records": HEAVY,
    "machine_learning_engineering.registry.manifest": HEAVY,
    "machine_learning_engineering.events.schemas": HEAVY,
    "machine_learning_engineering.drift.statistics": HEAVY,
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the product by name, with stubs of lazy re-exports as the package that they describe."""
    for package, root in PACKAGES.items():
        for path in sorted((root / package).rglob("*.py*")):
            if path.suffix in (".py", ".pyi"):
                parts = path.relative_to(root).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


NAMES = {name for name, _ in modules()}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The modules of the product that a file imports anywhere, functions and type checking included, with the names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom) and node.module in NAMES:
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield (submodule, "") if submodule in NAMES else (node.module, alias.name)


def test_no_import_cycle() -> None:
    """Not even one that an import inside a function hides."""
    graph: dict[str, set[str]] = {}
    for name, path in modules():
        graph.setdefault(name, set()).update(target for target, _ in imports(path) if target != name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_packages_hold_no_logic() -> None:
    """An `__init__.py` re-exports."""
    for name, path in modules():
        if path.name == "__init__.py":
            text = path.read_text(encoding="utf-8")
            assert len(text.splitlines()) <= MAX_INIT_LINES, name
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
            assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)], name


def test_no_module_uses_a_private_name_of_another() -> None:
    """A name with an underscore belongs to its module."""
    found = [
        f"{path.relative_to(ROOT)}: {target}.{name}"
        for _, path in modules()
        for target, name in imports(path)
        if any(part.startswith("_") and not part.startswith("__") for part in (*target.split("."), name))
    ]
    assert found == []


def test_files_are_short() -> None:
    """A file fits into a reader's head."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for _, path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_nothing_heavy(module: str) -> None:
    """In a new interpreter."""
    code = f"import sys, {module}; print([name for name in {PURE[module]} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
