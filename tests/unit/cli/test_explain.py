"""Every error of the package: one code each, explained, and the documentation agrees with the code."""

import importlib
import json
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import fedward
from fedward.cli.explain import EXIT_CODES, UnknownCodeError, catalogue, explain, markdown
from fedward.errors import FedwardError

DOCUMENT = Path(__file__).parents[3] / "docs" / "exit-codes.md"


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(explain)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_no_two_errors_share_a_code():
    counts = Counter(entry.code for entry in catalogue())
    assert [code for code, count in counts.items() if count > 1] == []


def test_every_error_says_what_it_means_and_how_the_command_ends():
    for entry in catalogue():
        assert entry.meaning, f"{entry.name} has no docstring"
        assert entry.fix, f"{entry.name} does not say what to do"
        assert entry.exit_code in EXIT_CODES, f"{entry.name} ends with an undocumented exit code"
        assert entry.code.startswith("FW-"), f"{entry.name} has a code of another form"


@pytest.mark.slow
def test_the_source_and_the_running_package_tell_the_same():
    for module in pkgutil.walk_packages(fedward.__path__, "fedward."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    classes = [FedwardError, *(each for each in FedwardError.catalogue() if each.__module__.startswith("fedward."))]
    running = {(each.code, each.__name__, each.exit_code, each.default_fix) for each in classes}
    assert {(entry.code, entry.name, entry.exit_code, entry.fix) for entry in catalogue()} == running


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(catalogue()), (
        "run: fedward explain --markdown > docs/exit-codes.md"
    )


def test_explaining_needs_no_torch():
    program = "import sys, fedward.cli.explain as e; e.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_code_is_explained_in_any_case(run):
    shown = run("fw-budget-001")
    assert shown.exit_code == 0
    assert "FW-BUDGET-001  BudgetError" in shown.output
    assert "The privacy budget does not allow what was asked." in shown.output
    assert "Exit code: 6 (privacy budget exhausted)" in shown.output


def test_a_fix_may_come_from_the_family(run):
    assert "Fix: Correct the file at the named key" in run("FW-CONFIG-002").output


def test_all_codes_are_listed_and_machine_readable(run):
    shown = run().output
    assert [entry.code for entry in catalogue() if entry.code not in shown] == []
    listed = json.loads(run("--json").output)
    assert [each["code"] for each in listed] == [entry.code for entry in catalogue()]


def test_an_unknown_code_is_an_error_with_a_code_of_its_own(run):
    failed = run("FW-NOPE-999")
    assert isinstance(failed.exception, UnknownCodeError)
    assert failed.exception.exit_code == 3
