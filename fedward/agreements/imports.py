"""Import graph of the package's source: which files a file reaches by import. It parses them and runs nothing.

Imports inside functions count; those for type checkers do not, and neither does what is looked up by name at run time.
A name that a package re-exports counts as the file that defines it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

PACKAGE = "fedward"


def locate(root: Path, file: str) -> Path:
    """Where ``file`` of the package lies; beside ``root`` in a checkout whose links to the role folders are missing."""
    inside = root / file
    return inside if inside.exists() else root.parent / file


def reach(root: Path, files: Collection[str], *, stop: Collection[str]) -> frozenset[str]:
    """``files`` and all that they reach by import.

    Args:
        root: the folder of the package.
        files: where to begin, relative to ``root``.
        stop: files that are neither followed nor in the answer.
    """
    found: set[str] = set()
    waiting = set(files) - set(stop)
    while waiting:
        found |= waiting
        waiting = {other for file in waiting for other in imported(root, file)} - found - set(stop)
    return frozenset(found)


def imported(root: Path, file: str) -> frozenset[str]:
    """The files of the package that ``file`` imports from, relative to ``root``."""
    return frozenset(
        target
        for module, name in _imports(locate(root, file).read_bytes())
        if module.split(".")[0] == PACKAGE
        for target in _defining(root, module, name)
    )


@lru_cache(maxsize=512)
def _imports(source: bytes) -> tuple[tuple[str, str | None], ...]:
    """Module and name of each import in ``source``; no name where the module itself is imported."""
    return tuple(_under(ast.parse(source)))


def _under(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _under(other)
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, None) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from ((child.module, alias.name) for alias in child.names)
        yield from _under(child)


def _defining(root: Path, module: str, name: str | None) -> Iterator[str]:
    """The file that defines ``name`` of ``module``, through re-exports; the module's own where it has no such name."""
    if name is not None and (inner := _file(root, f"{module}.{name}")):
        yield inner
        return
    file = _file(root, module)
    if file is None:
        return
    if file.endswith("__init__.py") and name is not None:
        for source, exported in _imports(locate(root, file).read_bytes()):
            if exported == name and source.split(".")[0] == PACKAGE:
                yield from _defining(root, source, name)
                return
    yield file


def _file(root: Path, module: str) -> str | None:
    """The file of a module of the package, relative to ``root``."""
    path = "/".join(module.split(".")[1:])
    candidates = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((each for each in candidates if locate(root, each).is_file()), None)
