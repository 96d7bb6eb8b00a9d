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

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

from fedward.agreements.imports import locate, reach
from fedward.errors import DataError, VersionError
from fedward.messages import labelled_hash
from fedward.plan import Plan
from fedward.strategies.registry import STRATEGIES

ROOT = Path(__file__).parents[1]

CORE = {
    "": "adapter config errors messages plan registry run stages storage units",
    "agreements": "code imports roster_rules",
    "client": "approval examples gradient_correction gradients hospital local_state records result_verification "
    "statistics training",
    "client/corpora": "corpus",
    "client/data": "buckets characters deid events example languages leakage split text thresholds.toml",
    "client/models": "adapter_model base_model core_matrix for_run frozen inputs model_config registry tokens "
    "weight_files",
    "client/models/families": "family rules",
    "client/tasks": "source stays task",
    "measures": "measure",
    "privacy": "accounting events noise stream",
    "privacy/dpsgd": "backends clipping engine gates optimizer sampler",
    "privacy/ledger": "book files ledger patients pricing records",
    "privacy/secagg": "acceptance client crypto encoding epoch identity journal merkle messages package results roster "
    "state",
    "strategies": "combinations factor gate optimizers strategy",
    "tasks": "task",
}
"""Files of the core by folder; a test holds the list closed under imports."""

REGISTRIES = frozenset(
    {
        "client/corpora/__init__.py",
        "client/models/families/__init__.py",
        "client/tasks/__init__.py",
        "measures/__init__.py",
        "strategies/registry.py",
        "tasks/__init__.py",
    }
)
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
    """The files of what ``plan`` names; empty for a name that is none."""
    module = STRATEGIES.get(plan.strategy, "").partition(":")[0]
    strategy = module.removeprefix("fedward.").replace(".", "/")
    entries = (_file("tasks", plan.task), _file("client/tasks", plan.task), _file("client/models/families", family))
    return (*entries, f"{strategy}.py" if strategy else "")


def reader_files(format: str, *, root: Path = ROOT) -> frozenset[str]:
    """The files that read tables of ``format``, beside the core's."""
    return _with_imports((_file("client/corpora", format),), root)


def core_hash(*, root: Path = ROOT) -> bytes:
    """SHA-256 over the core; what a roster and a manifest call their code hash."""
    return _hash("core", core_files(), root)


def plan_code_hash(plan: Plan, family: str, *, root: Path = ROOT) -> bytes:
    """SHA-256 over what ``plan`` adds to the core; what a signed plan calls its code hash.

    Raises:
        VersionError: FW-VERSION-304, it names something that has no file here.
    """
    named = _named(plan, family)
    if not all(file and locate(root, file).is_file() for file in named):
        raise VersionError("The plan names a task, strategy or model family without a file.", code="FW-VERSION-304")
    return _hash("plan", _with_imports(named, root), root, STRATEGIES.get(plan.strategy, ""))


def reader_hash(format: str, *, root: Path = ROOT) -> bytes:
    """SHA-256 over the reader of ``format``; stands in each approval of a hospital with such tables.

    Raises:
        DataError: FW-DATA-009, there is no such reader here.
    """
    files = reader_files(format, root=root)
    if not files:
        raise DataError("There is no reader of that format here.", code="FW-DATA-009")
    return _hash("reader", files, root)


def check_core(pinned: bytes) -> None:
    """Refuses a roster of another core; called before any hospital is asked, and so before any is charged.

    Raises:
        VersionError: FW-VERSION-303, ``pinned`` is not the hash of the core that is installed here.
    """
    if pinned != core_hash():
        raise VersionError("The roster was published with another core than is installed here.", code="FW-VERSION-303")


def check_plan_code(plan: Plan, family: str, pinned: bytes) -> None:
    """Refuses a plan that was made with other code of its own parts; before any hospital is asked.

    Raises:
        VersionError: FW-VERSION-304, ``pinned`` is not the hash of the plan's code that is installed here.
    """
    if pinned != plan_code_hash(plan, family):
        raise VersionError(
            "The plan was made with other code of its task, strategy, measures or model family than is installed here.",
            code="FW-VERSION-304",
        )


def short(digest: bytes) -> str:
    """The first 64 bits of a hash that is pinned in full, for people to compare at a glance."""
    return " ".join(digest[i : i + 2].hex() for i in range(0, 8, 2))


def _file(registry: str, name: str) -> str:
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
