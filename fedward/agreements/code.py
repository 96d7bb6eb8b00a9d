"""Hashes of code: what decides which numbers leave a hospital, in the three parts that people agree to separately.

* The **core** is the same in every run: protocol, noise, sampling, accounting, ledger, the hospital's round,
  de-identification, leakage guard. The roster pins it, and so does every manifest.
* The **plan's code** is its task, strategy, measures and model family. The signed plan pins it.
* The **reader** turns a hospital's own tables into records. That hospital's approval of a plan pins it.

Everything else (the daemon's commands, transport, planning, simulation, audits, error texts) may change without anybody
approving again. A part is a list of files, closed under imports: the core's stands here, the other two follow from the
registries, in which every task, model family and corpus has a file of its own name.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from fedward.errors import DataError, VersionError
from fedward.messages import labelled_hash
from fedward.plan import Plan
from fedward.strategies.registry import STRATEGIES

ROOT = Path(__file__).parents[1]

CORE = {
    "": "adapter config errors failpoints messages plan registry run storage units",
    "agreements": "code",
    "client": "examples hospital records result_verification survey training",
    "client/corpora": "corpus excluding",
    "client/data": "batch blocks buckets columns deid deid_chinese deid_english drops events example exclusions "
    "reading scanned spans text thresholds.toml timeline",
    "client/models": "adapter_model inputs precision registry tokens vocabulary_loss",
    "client/models/families": "family",
    "client/tasks": "task",
    "measures": "measure",
    "privacy": "accounting book events ledger noise",
    "privacy/dpsgd": "backends clipping engine",
    "privacy/secagg": "blame client crypto encoding journal messages releases results roster",
    "strategies": "combinations factor optimizers strategy",
    "tasks": "task",
}
"""Files of the core by folder; a test holds the list closed under imports."""

_FOLDERS = ("client/corpora", "client/models/families", "client/tasks", "measures", "tasks")
REGISTRIES = frozenset({"sources.py", "strategies/registry.py", *(f"{folder}/__init__.py" for folder in _FOLDERS)})
"""Look-ups by name. They are in no part: an entry that no plan names must not change what was agreed on."""


def core_files() -> frozenset[str]:
    """The files of the core, relative to the folder of the package."""
    return frozenset(
        f"{folder}/{name}".lstrip("/") + ("" if "." in name else ".py")
        for folder, names in CORE.items()
        for name in names.split()
    )


def plan_files(plan: Plan, family: str, *, root: Path = ROOT) -> frozenset[str]:
    """The files that ``plan`` adds to the core for base models of ``family``; none for a name that is unknown here."""
    return _with_imports(_named(plan, family), root)


def _named(plan: Plan, family: str) -> tuple[str, ...]:
    """The files of what ``plan`` names; empty text for a name that is none."""
    module = STRATEGIES.get(plan.strategy, "").partition(":")[0]
    strategy = module.removeprefix("fedward.").replace(".", "/")
    entries = (_entry("tasks", plan.task), _entry("client/tasks", plan.task))
    families = () if plan.statistics is not None else (_entry("client/models/families", family),)
    return (*entries, *families, f"{strategy}.py" if strategy else "")


def reader_files(format: str, *, root: Path = ROOT) -> frozenset[str]:
    """The files that read tables of ``format``, beside the core's."""
    return _with_imports((_entry("client/corpora", format),), root)


def core_hash(*, root: Path = ROOT) -> bytes:
    """SHA-256 over the core; what a roster and a manifest call their code hash."""
    return _hash("core", core_files(), root)


def plan_code_hash(plan: Plan, family: str, *, root: Path = ROOT) -> bytes:
    """SHA-256 over what ``plan`` adds to the core; a signed plan's code hash. Raises FW-VERSION-304 (has no file)."""
    named = _named(plan, family)
    if not all(file and locate(root, file).is_file() for file in named):
        raise VersionError("The plan names a task, strategy or model family without a file.", code="FW-VERSION-304")
    return _hash("plan", _with_imports(named, root), root, STRATEGIES.get(plan.strategy, ""))


def reader_hash(format: str, *, root: Path = ROOT) -> bytes:
    """SHA-256 over the reader of ``format``; a hospital's approval names it. Raises FW-DATA-009 (no such reader)."""
    files = reader_files(format, root=root)
    if not files:
        raise DataError("There is no reader of that format here.", code="FW-DATA-009")
    return _hash("reader", files, root)


def with_mapping(reader: bytes, mapping: bytes) -> bytes:
    """The hash of a reader with the mapping file that it reads by, which decides as much as code what a record is."""
    return labelled_hash("code-mapping", reader, mapping)


def check_core(pinned: bytes) -> None:
    """Refuses a roster of another core (FW-VERSION-303); called before any hospital is asked and so any is charged."""
    if pinned != core_hash():
        raise VersionError("The roster was published with another core than is installed here.", code="FW-VERSION-303")


def check_plan_code(plan: Plan, family: str, pinned: bytes) -> None:
    """Refuses a plan that was made with other code of its own parts (FW-VERSION-304); before any hospital is asked."""
    if pinned != plan_code_hash(plan, family):
        raise VersionError(
            "The plan was made with other code of its task, strategy, measures or model family than is installed here.",
            code="FW-VERSION-304",
        )


def short(digest: bytes) -> str:
    """The first 64 bits of a hash that is pinned in full, for people to compare at a glance."""
    return " ".join(digest[i : i + 2].hex() for i in range(0, 8, 2))


def _entry(registry: str, name: str) -> str:
    """The file of an entry. A name may come from outside, so one that names no module becomes no path."""
    module = name.replace("-", "_")
    return f"{registry}/{module}.py" if module.isidentifier() else ""


def _with_imports(files: Iterable[str], root: Path) -> frozenset[str]:
    present = {file for file in files if file and locate(root, file).is_file()}
    return reach(root, present, stop=REGISTRIES | core_files())


def packages(files: Iterable[str]) -> frozenset[str]:
    """The ``__init__.py`` of every folder above ``files``, which run with them; not those of the registries."""
    folders = {"/".join(file.split("/")[:depth]) for file in files for depth in range(1, file.count("/") + 1)}
    return frozenset(f"{folder}/__init__.py" for folder in folders) - REGISTRIES


def _hash(part: str, files: Collection[str], root: Path, *names: str) -> bytes:
    hashed = sorted({*files, *packages(files)})
    digests = ((file, hashlib.sha256(locate(root, file).read_bytes()).digest()) for file in hashed)
    return labelled_hash(f"code-{part}", *names, *(item for pair in digests for item in pair))


# --- import graph ---------------------------------------------------------------------------------
#
# Files are parsed, and nothing is run. Imports inside functions count; those for type checkers do not, and neither does
# what is looked up by name at run time. A name that a package re-exports counts as the file that defines it.


def locate(root: Path, file: str) -> Path:
    """Where ``file`` of the package lies; beside ``root`` in a checkout whose links to the role folders are missing."""
    inside = root / file
    return inside if inside.exists() else root.parent / file


def reach(root: Path, files: Collection[str], *, stop: Collection[str]) -> frozenset[str]:
    """``files`` and all that they reach by import, relative to ``root``; ``stop`` is neither followed nor in it."""
    found: set[str] = set()
    waiting = set(files) - set(stop)
    while waiting:
        found |= waiting
        waiting = {other for file in waiting for other in imported(root, file)} - found - set(stop)
    return frozenset(found)


def imported(root: Path, file: str) -> frozenset[str]:
    """The files of the package that ``file`` imports from, relative to ``root``."""
    return frozenset(
        target for module, name in _imports(locate(root, file).read_bytes()) for target in _defining(root, module, name)
    )


@lru_cache(maxsize=512)
def _imports(source: bytes) -> tuple[tuple[str, str | None], ...]:
    """Module and name of each import of the package in ``source``; no name where the module itself is imported."""
    return tuple(pair for pair in _under(ast.parse(source)) if pair[0].split(".")[0] == "fedward")


def _under(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
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
    if name is not None and (inner := _module_file(root, f"{module}.{name}")):
        yield inner
        return
    file = _module_file(root, module)
    if file is None:
        return
    if file.endswith("__init__.py") and name is not None:
        for source, exported in _imports(locate(root, file).read_bytes()):
            if exported == name:
                yield from _defining(root, source, name)
                return
    yield file


def _module_file(root: Path, module: str) -> str | None:
    """The file of a module of the package, relative to ``root``."""
    path = "/".join(module.split(".")[1:])
    candidates = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((each for each in candidates if locate(root, each).is_file()), None)
