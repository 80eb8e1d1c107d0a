"""The shape of the package: arrows between its folders, no import circles, files of a readable length."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

BELOW = {
    "tensors": set(),
    "nn": set(),
    "generation": set(),
    "models": {"tensors", "nn", "generation"},
    "checkpoints": {"tensors", "nn", "generation", "models"},
    "data": {"tensors", "nn", "generation", "models", "checkpoints"},
    "train": {"tensors", "nn", "generation", "models", "checkpoints", "data"},
    "eval": {"tensors", "nn", "generation", "models", "checkpoints", "data"},
    "cli": {"tensors", "nn", "generation", "models", "checkpoints", "data", "train", "eval"},
}
"""Folder -> the folders that it may import. Modules at the top of the package (`jomni.audio`, ...) are free."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "jomni").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, also inside functions; not those for type checkers only."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in MODULES or node.module in MODULES:
                    yield full if full in MODULES else node.module
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    return visit(ast.parse(path.read_text()))


def folder_of(module: str) -> str:
    """The folder of the package in which a module lies; "" for modules at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else ""


def test_arrows_between_folders_go_one_way():
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        if (here := folder_of(module))
        for other in imports(path)
        if (there := folder_of(other)) and there != here and there not in BELOW[here]
    ]
    assert not wrong


def test_there_are_no_import_circles():
    graph = {name: {m for m in imports(path) if m not in (name, "jomni")} for name, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        if module in trail:
            pytest.fail(" -> ".join((*trail[trail.index(module) :], module)))
        if module not in done:
            for other in sorted(graph[module]):
                walk(other, (*trail, module))
            done.add(module)

    for module in graph:
        walk(module, ())


def test_no_file_is_too_long_to_read():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_nothing_imports_torch():
    assert not [name for name, path in MODULES.items() if "import torch" in path.read_text()]
