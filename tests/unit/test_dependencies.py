"""What pyproject.toml declares is what is imported, for the coordinator, for hospitals, and for the tests."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"fedward", "benchmarks", "scripts", "tests"}
# Distributions whose modules have another name.
DISTRIBUTIONS = {
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "sklearn": "scikit-learn",
}
PACKAGE = ("fedward", "server", "client", "strategies", "privacy", "simulations")
# Where the client extra may be imported; everything else runs at the coordinator too.
HOSPITAL = ("client", "privacy/dpsgd", "simulations", "fedward/planning/estimate.py", "fedward/cli/evaluate.py")
NOT_IMPORTED = {
    "click": "typer's own, bounded because typer allows a release with which it prints no help",
}
# Run as commands or by pytest, never imported.
TOOLS = {"build", "import-linter", "mypy", "pytest-cov", "pytest-xdist", "ruff", "setuptools"}


def declared():
    """Distributions that are declared for the coordinator, for hospitals, for tests and for benchmarks."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = document["project"], document["dependency-groups"]
    lists = (
        project["dependencies"],
        [line for extra in project["optional-dependencies"].values() for line in extra],
        groups["dev"],
        groups["benchmark"],
    )
    return [{re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in lines} for lines in lists]


def sources(*folders):
    for folder in folders:
        top = ROOT / folder
        for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
            if not any(part.is_symlink() for part in path.parents):
                yield path


def imported(paths):
    """Distributions by the first file that imports them, at its top or inside a function."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module]
            for name in {module.partition(".")[0] for module in modules}:
                if name not in sys.stdlib_module_names and name not in OURS:
                    found.setdefault(DISTRIBUTIONS.get(name, name.replace("_", "-").lower()), path)
    return found


def test_what_the_package_imports_is_declared():
    coordinator, hospital, _, _ = declared()
    everything = list(sources(*PACKAGE))
    at_hospitals = {path for folder in HOSPITAL for path in sources(folder)}
    assert len(everything) > 100
    undeclared = imported(path for path in everything if path not in at_hospitals).keys() - coordinator
    assert not undeclared, "imported where no client extra is installed"
    assert not imported(everything).keys() - coordinator - hospital


def test_what_is_declared_is_imported():
    coordinator, hospital, dev, _ = declared()
    used = imported(sources(*PACKAGE)).keys()
    assert coordinator | hospital == used | NOT_IMPORTED.keys()
    assert NOT_IMPORTED.keys() <= coordinator - used
    by_tests = imported(sources("tests", "benchmarks", "scripts")).keys()
    assert dev == (by_tests - coordinator - hospital) | TOOLS


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import nowhere.inner", "nowhere"),
        ("def f():\n    from sklearn import svm", "scikit-learn"),
        ("import os", None),
    ],
)
def test_an_import_is_seen_wherever_it_stands(tmp_path, line, name):
    (tmp_path / "file.py").write_text(line, encoding="utf-8")
    assert set(imported([tmp_path / "file.py"])) == ({name} if name else set())


def test_the_hosted_workflow_runs_every_python_that_the_metadata_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    matrix = re.search(r"python: \[(.*)\]", workflow)[1]
    assert re.findall(r"3\.\d+", matrix) == named
    assert project["requires-python"] == f">={named[0]},<3.{int(named[-1][2:]) + 1}"
