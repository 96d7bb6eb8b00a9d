"""The table of data sets and layouts stands in the documentation, and each is found in its invented example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.cli.formats import markdown, registered
from fedward.client.corpora import CORPORA
from fedward.client.folder import check_folder

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.torch  # the tasks need it


def test_the_document_has_the_table() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert markdown(registered()) in text, "put what `fedward data formats --markdown` prints into docs/data.md"


@pytest.mark.parametrize("format", CORPORA)
def test_an_example_is_found_and_read_whole(format: str) -> None:
    [row] = [each for each in registered() if each.format == format]
    report = check_folder(ROOT / row.example)
    assert (report.format, report.unit, report.licence) == (format, row.unit, row.licence)
    assert report.read_whole, report.problems
    assert {form.form for form in report.forms} <= set(row.forms)
    assert {task.task for task in report.tasks} <= set(row.tasks)


def test_the_command_prints_table_markdown_and_json() -> None:
    printed = {option: CliRunner().invoke(app, ["formats", *option.split()]) for option in ("", "--json", "--markdown")}
    assert all(each.exit_code == 0 for each in printed.values())
    assert [each["format"] for each in json.loads(printed["--json"].stdout)["formats"]] == list(CORPORA)
    assert all(name in printed["--markdown"].stdout for name in CORPORA)
