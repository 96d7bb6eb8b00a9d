"""The three parts of the code hash: closed under imports, and changed by what they cover and by nothing else."""

import ast
import re
import shutil
from contextlib import contextmanager
from importlib import import_module

import pytest

from fedward.agreements.code import (
    REGISTRIES,
    ROOT,
    check_core,
    check_plan_code,
    core_files,
    core_hash,
    imported,
    locate,
    plan_code_hash,
    plan_files,
    reach,
    reader_files,
    reader_hash,
    with_mapping,
)
from fedward.client.corpora import CORPORA
from fedward.client.models.families import FAMILIES
from fedward.client.tasks import LOCAL_TASKS
from fedward.plan import Plan
from fedward.strategies.registry import STRATEGIES
from fedward.tasks import TASKS
from tests.codes import raises

FOLDERS = ("client", "privacy", "server", "simulations", "strategies")
NOT_PINNED = {"coverage.toml", "errors.toml", "py.typed"}
"""Data files of the kernel that decide nothing about what leaves."""


def plan(task="mortality", strategy="ffa"):
    return Plan(name="icu", task=task, strategy=strategy, base_model_sha256="ab" * 32)


PLANS = {
    (task, strategy, family): (plan(task, strategy), family)
    for task in ("mortality", "phenotypes", "pubmedqa")
    for strategy in ("ffa", "fedsvd", "scaffold")
    for family in ("bert", "distilbert")
}
"""Plans to be compared, by what they name."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The source of the package, to be edited."""
    root = tmp_path_factory.mktemp("copy") / "fedward"
    names = shutil.ignore_patterns("__pycache__", "*.safetensors", *FOLDERS)
    shutil.copytree(ROOT, root, ignore=names)
    for folder in FOLDERS:
        shutil.copytree(locate(ROOT, folder), root / folder, ignore=shutil.ignore_patterns("__pycache__", "packaged"))
    return root


@contextmanager
def edited(root, file, text="\n# a comment\n"):
    path = root / file
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + text.encode())
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def hashes(root):
    """Every hash that is pinned somewhere, by what it covers."""
    return {
        "core": core_hash(root=root),
        **{names: plan_code_hash(plan, family, root=root) for names, (plan, family) in PLANS.items()},
        **{name: reader_hash(name, root=root) for name in CORPORA},
    }


@pytest.fixture(scope="module")
def before(copy):
    found = hashes(copy)
    assert found == hashes(ROOT), "a copy has the same hashes as the original"
    assert len(set(found.values())) == len(found)
    return found


def changed(copy, before, file, text="\n# a comment\n"):
    with edited(copy, file, text):
        return {name for name, value in hashes(copy).items() if value != before[name]}


# --- closed under imports ---------------------------------------------------------------------------------------------


def leaks(root, files):
    """What the listed files import that is not listed, by importing file."""
    sources = {file for file in files if file.endswith(".py")}
    outside = {file: imported(root, file) - files - REGISTRIES for file in sources}
    return {file: sorted(names) for file, names in outside.items() if names}


def test_the_core_is_closed_under_imports():
    assert leaks(ROOT, core_files()) == {}, "list these files in CORE, or cut the import"


def test_an_import_that_leaves_the_core_is_noticed(copy):
    line = "\ndef late():\n    from fedward.client.daemon import doctor\n"
    with edited(copy, "privacy/noise.py", line):
        assert leaks(copy, core_files()) == {"privacy/noise.py": ["client/daemon/doctor.py"]}


def test_the_other_parts_hold_all_they_import_beside_the_core():
    plans = [(plan(task), "bert") for task in TASKS]
    plans += [(plan(strategy=strategy), "bert") for strategy in STRATEGIES]
    plans += [(plan(), family) for family in FAMILIES]
    for one, family in plans:
        files = plan_files(one, family)
        assert leaks(ROOT, files | core_files()) == {}, (one, family)
        assert not files & (core_files() | REGISTRIES)
    for name in CORPORA:
        assert leaks(ROOT, reader_files(name) | core_files()) == {}, name


def test_the_core_lists_only_files_that_are_there():
    assert [file for file in core_files() if not locate(ROOT, file).is_file()] == []


def test_packages_that_are_not_listed_do_nothing_when_they_are_imported():
    """Python runs the ``__init__`` of every folder above a file of the core; such a one only passes names on."""
    folders = {"/".join(file.split("/")[:depth]) for file in core_files() for depth in range(1, file.count("/") + 1)}
    for file in {f"{folder}/__init__.py" for folder in folders} - core_files() - REGISTRIES:
        docstring, *body = ast.parse(locate(ROOT, file).read_bytes()).body
        assert isinstance(docstring, ast.Expr)
        acts = [each for each in body if not isinstance(each, (ast.ImportFrom, ast.FunctionDef))]
        assert all(isinstance(each, ast.Assign) and each.targets[0].id == "__all__" for each in acts), file


def test_data_that_the_core_reads_is_listed():
    """A file beside a core module is data of the core, unless it is known to decide nothing."""
    folders = {file.rpartition("/")[0] for file in core_files()}
    beside = {
        path.relative_to(locate(ROOT, folder)).as_posix() if not folder else f"{folder}/{path.name}"
        for folder in folders
        for path in locate(ROOT, folder).iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    links = set(FOLDERS)  # files, where a checkout has no links
    assert beside - links - NOT_PINNED <= core_files()


def test_nothing_in_the_core_or_a_reader_finds_code_by_name_at_run_time():
    for file in (file for file in core_files() if file.endswith(".py")):
        assert "import_module" not in locate(ROOT, file).read_text(encoding="utf-8"), file


# --- the registries name files ----------------------------------------------------------------------------------------


def test_every_entry_of_a_registry_has_the_file_of_its_name():
    """A plan's and a reader's files are found by name; an entry in another file would not be hashed."""
    for registry, entries, constant in (
        ("fedward.tasks", TASKS, "TASK"),
        ("fedward.client.tasks", LOCAL_TASKS, "LOCAL"),
        ("fedward.client.models.families", FAMILIES, "FAMILY"),
    ):
        for name, entry in entries.items():
            assert getattr(import_module(f"{registry}.{name.replace('-', '_')}"), constant) is entry
    for name, corpus in CORPORA.items():
        assert type(corpus).__module__ == f"fedward.client.corpora.{name.replace('-', '_')}"


def test_a_plans_files_are_those_of_what_it_names():
    files = plan_files(plan("mortality", "scaffold"), "roberta")
    assert {
        "tasks/mortality.py",
        "client/tasks/mortality.py",
        "client/tasks/prediction.py",
        "measures/auroc.py",
        "strategies/contrib/scaffold.py",
        "client/models/families/roberta.py",
    } <= files
    assert not files & {"tasks/phenotypes.py", "strategies/fedsvd.py", "client/models/families/distilbert.py"}
    for strategy, path in STRATEGIES.items():
        module = path.partition(":")[0].removeprefix("fedward.").replace(".", "/")
        assert f"{module}.py" in plan_files(plan(strategy=strategy), "bert")


@pytest.mark.parametrize("name", ["../cli/main", "", "nobody", "/etc/passwd", "mortality.py"])
def test_a_name_that_is_none_leads_to_no_file(name):
    assert reader_files(name) == frozenset()
    known = plan_files(plan(), "bert")
    assert plan_files(plan(), name) < known
    assert plan_files(plan().model_copy(update={"task": name}), "bert") < known
    assert plan_files(plan().model_copy(update={"strategy": name}), "bert") < known


# --- both directions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        "client/daemon/doctor.py",
        "client/flower.py",
        "cli/client.py",
        "errors.toml",
        "planning/estimate.py",
        "privacy/audit.py",
        "privacy/secagg/server.py",
        "server/rounds.py",
        "simulations/report/view.py",
        "strategies/contrib/hetlora.py",
        "strategies/registry.py",
        "tasks/__init__.py",
        "tasks/a_new_task.py",
    ],
)
def test_what_decides_nothing_about_what_leaves_changes_no_hash(copy, before, file):
    assert changed(copy, before, file) == set()


def test_any_change_in_a_file_of_the_core_changes_the_core(copy, before):
    for file in core_files():
        with edited(copy, file):
            assert core_hash(root=copy) != before["core"], file
    assert core_hash(root=copy) == before["core"]
    assert changed(copy, before, "privacy/noise.py") == {"core"}


@pytest.mark.parametrize(
    ("file", "place", "names"),
    [
        ("strategies/fedsvd.py", 1, {"fedsvd"}),
        ("strategies/contrib/scaffold.py", 1, {"scaffold"}),
        ("tasks/phenotypes.py", 0, {"phenotypes"}),
        ("client/tasks/phenotypes.py", 0, {"phenotypes"}),
        ("measures/f1.py", 0, {"phenotypes"}),
        ("client/models/families/distilbert.py", 2, {"distilbert"}),
    ],
)
def test_a_change_in_a_plans_own_code_changes_the_plans_that_use_it_and_no_other(copy, before, file, place, names):
    assert changed(copy, before, file) == {key for key in PLANS if key[place] in names}


def test_the_module_of_a_folder_belongs_to_what_lies_in_it(copy, before):
    """Broken: a class in an ``__init__.py`` shadows the one that was agreed on, and no hash changes."""
    assert "core" in changed(copy, before, "privacy/dpsgd/__init__.py")
    assert "core" in changed(copy, before, "client/models/__init__.py")


def test_what_has_no_file_has_no_hash():
    with raises("FW-DATA-009"):
        reader_hash("nobody")
    for one, family in ((plan("nobody"), "bert"), (plan(strategy="nobody"), "bert"), (plan(), "nobody")):
        with raises("FW-VERSION-304"):
            plan_code_hash(one, family)


def test_every_strategy_has_a_file_of_its_own(copy, before):
    """Broken: a comment in a strategy that nobody uses takes back everybody's approval of the default one."""
    modules = [path.partition(":")[0] for path in STRATEGIES.values()]
    assert len(set(modules)) == len(modules)
    for strategy in ("fedit", "fedsb", "fedsvd"):
        assert changed(copy, before, f"strategies/{strategy}.py") == {key for key in PLANS if key[1] == strategy}


def test_a_measure_that_a_plan_does_not_name_changes_no_plan(copy, before):
    """AUROC and cross-entropy share a histogram, macro AUROC its bins; a change in AUROC alone is its own."""
    assert plan_files(plan("los-days"), "bert").isdisjoint({"measures/auroc.py", "measures/histogram.py"})
    assert {"measures/histogram.py", "measures/auroc.py"} <= plan_files(plan("mortality"), "bert")


def test_no_hashed_file_imports_by_name_at_run_time():
    """What is looked up by a text is in no import graph; the lazy examples of the data package are in the core."""
    plans = (plan_files(one, family) for one, family in [(plan(strategy=name), "bert") for name in STRATEGIES])
    hashed = core_files().union(*plans, *map(reader_files, CORPORA))
    looking = {file for file in hashed if re.search(r"import_module|__import__", locate(ROOT, file).read_text("utf-8"))}
    assert looking <= {"client/data/__init__.py"}


def test_a_change_in_a_reader_changes_the_hospitals_that_use_it_and_no_other(copy, before):
    assert changed(copy, before, "client/corpora/eicu.py") == {"eicu"}
    assert changed(copy, before, "client/corpora/mimic_iii.py") == {"mimic-iii"}


# --- what the coordinator refuses -------------------------------------------------------------------------------------


def test_the_coordinator_says_which_part_is_another():
    check_core(core_hash())
    check_plan_code(plan(), "bert", plan_code_hash(plan(), "bert"))
    with raises("FW-VERSION-303", match="core"):
        check_core(b"x" * 32)
    with raises("FW-VERSION-304", match="strategy"):
        check_plan_code(plan(), "roberta", plan_code_hash(plan(), "bert"))


# --- the import graph -------------------------------------------------------------------------------------------------


def test_imports_are_followed_to_the_file_that_defines_a_name(tmp_path):
    sources = {
        "__init__.py": "",
        "a.py": "from typing import TYPE_CHECKING\nimport fedward.b\nif TYPE_CHECKING:\n    from fedward.c import C\n"
        "if not TYPE_CHECKING:\n    import fedward.real\n",
        "real.py": "",
        "b.py": "def late():\n    from fedward.pack import D, E, inner, own\n    import numpy, fedwardish\n",
        "c.py": "C = 1\n",
        "pack/__init__.py": "from fedward.pack.d import D\nfrom fedward.e import E\nown = 1\n",
        "pack/d.py": "D = 1\n",
        "pack/inner.py": "",
        "e.py": "E = 1\n",
    }
    root = tmp_path / "fedward"
    for name, text in sources.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    assert imported(root, "a.py") == {"b.py", "real.py"}
    everything = {"a.py", "b.py", "real.py", "e.py", "pack/__init__.py", "pack/d.py", "pack/inner.py"}
    assert reach(root, {"a.py"}, stop=()) == everything
    assert reach(root, {"a.py"}, stop={"pack/__init__.py", "e.py"}) == everything - {"pack/__init__.py", "e.py"}
    shutil.move(root / "pack", tmp_path / "pack")
    assert imported(root, "b.py") == {"e.py", "pack/__init__.py", "pack/d.py", "pack/inner.py"}, "without links"


def test_a_mapping_file_is_part_of_its_reader_and_of_no_other(copy, before):
    one, other = with_mapping(before["mapped"], b"a = 1"), with_mapping(before["mapped"], b"a = 2")
    assert len({before["mapped"], one, other, with_mapping(before["omop"], b"a = 1")}) == 4
    assert changed(copy, before, "client/corpora/mapping.py") == {"mapped"}
    assert changed(copy, before, "client/corpora/mapped_cells.py") == {"mapped"}
