"""`fedward explain` tells what the table of errors says, and the documentation agrees with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fedward.cli.explain import EXIT_CODES, explain, markdown
from fedward.errors import table

DOCUMENT = Path(__file__).parents[3] / "docs" / "exit-codes.md"


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(explain)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_every_error_says_what_it_means_and_how_the_command_ends():
    for row in table().values():
        assert row.meaning and row.fix, f"{row.code} explains nothing"
        assert row.exit_code in EXIT_CODES, f"{row.code} ends with an undocumented exit code"
        assert row.code.startswith("FW-"), f"{row.code} has another form"


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == markdown(tuple(table().values())), (
        "run: fedward explain --markdown > docs/exit-codes.md"
    )


def test_explaining_needs_no_torch():
    program = "import sys, fedward.cli.explain as e; e.table(); sys.exit('torch' in sys.modules)"
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
    assert [code for code in table() if code not in shown] == []
    listed = json.loads(run("--json").output)
    assert [each["code"] for each in listed] == list(table())


def test_an_unknown_code_is_an_error_with_a_code_of_its_own(run):
    failed = run("FW-NOPE-999")
    assert failed.exception.code == "FW-CONFIG-031"
    assert failed.exception.exit_code == 3
