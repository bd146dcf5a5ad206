"""The wings of `pipeline`: imports run down, what each may not know, and one object that knows the folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. A wing imports those below it alone.
WINGS = ("units", "text", "components", "readers", "accounts", "jobs", "service", "cli")
# What a wing may not import, whatever lies below it.
NEVER = {
    "units": {"retrieval", "pipeline.text"},
    "text": {"apache_beam", "encoders", "retrieval", "pipeline.units"},
    "components": {"apache_beam"},
    "readers": {"apache_beam", "pipeline.text", "pipeline.components"},
    "accounts": {"apache_beam"},
    "service": {"apache_beam", "pipeline.text", "pipeline.jobs"},
    "cli": {"apache_beam", "pipeline.text"},
}
# Who spells the name of a file or folder of a corpus: the layout's own modules. Patterns by which a component
# knows the files that it makes again are regular expressions of its own.
SPELL = ("storage/folder.py", "storage/manifest.py", "storage/run_statistics.py", "storage/work_folder.py")
NAMES = {"corpus.json", "plan.json", "statistics", "work"}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def test_the_wings_are_all_there_are() -> None:
    folders = {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(WINGS)
    assert {p.name for p in (ROOT / "pipeline").glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_those_below_it_alone(wing: str) -> None:
    above = WINGS[WINGS.index(wing) + 1 :]
    paths = sorted((ROOT / "pipeline" / wing).rglob("*.py"))
    assert len(paths) > 3
    for path in paths:
        for name in imported(path):
            for forbidden in (*(f"pipeline.{other}" for other in above), *NEVER.get(wing, ())):
                assert not within(name, forbidden), f"{path.relative_to(ROOT)} imports {name}"


def test_one_object_knows_the_folder() -> None:
    """No function takes a corpus as a path, and nobody else spells the names of what lies in one."""
    for package in ("pipeline", "retrieval", "encoders"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    for argument in (*node.args.args, *node.args.kwonlyargs):
                        kind = ast.unparse(argument.annotation) if argument.annotation else ""
                        known = package == "retrieval"  # its index, which is given a file's entry below
                        assert known or (argument.arg, kind) != ("root", "Path"), f"{path}: {node.name}"
                elif isinstance(node, ast.Constant) and node.value in NAMES:
                    raise AssertionError(f"{path.relative_to(ROOT)} spells {node.value!r}")


def test_storage_spells_each_name_once() -> None:
    for path in sorted((ROOT / "storage").rglob("*.py")):
        if str(path.relative_to(ROOT)) in SPELL:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Constant) and node.value in NAMES), f"{path}: {node.value!r}"


def test_a_component_is_one_noun_on_every_storey() -> None:
    from storage import components

    for component in components.TABLE:
        for storey in ("storage", "pipeline"):
            folder = ROOT / storey / "components"
            there = (folder / f"{component.noun}.py").is_file() or (folder / component.noun).is_dir()
            assert there, (storey, component.noun)
