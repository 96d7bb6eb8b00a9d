from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.client.data import check_folder
from tests.codes import raises

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_mimic_folder(tables: Tables) -> None:
    assert check_folder(tables("mimic3")).to_value() == {
        "format": "mimic-iii",
        "usable": True,
        "rows": {"PATIENTS": 7, "ADMISSIONS": 8, "ICUSTAYS": 8, "LABEVENTS": 13, "NOTEEVENTS": 7},
        "patients": 7,
        "stays": 8,
        "groups": {},
        "tasks": [
            {"task": "mortality", "eligible": 4, "positives": 1},
            {"task": "los3", "eligible": 3, "positives": 1},
        ],
        "notes": 2,
        "problems": [],
    }


def test_eicu_folder(tables: Tables) -> None:
    report = check_folder(tables("eicu"))
    assert report.format == "eicu"
    assert report.groups == {"midwest": 2, "unknown": 1}
    assert report.usable


def test_a_broken_table_is_a_problem_not_a_crash(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3")
    edit(folder / "LABEVENTS.csv", "VALUENUM", "AMOUNT")
    report = check_folder(folder)
    assert [problem.code for problem in report.problems] == ["FW-DATA-003"]
    assert not report.usable


def test_an_incomplete_folder_says_what_is_missing(tables: Tables) -> None:
    folder = tables("eicu")
    (folder / "hospital.csv").unlink()
    report = check_folder(folder)
    assert report.format is None
    assert "HOSPITAL" in report.problems[0].fix


def test_missing_folder(tmp_path: Path) -> None:
    with raises("FW-DATA-011"):
        check_folder(tmp_path / "nowhere")


def test_command_prints_json_and_text(tables: Tables) -> None:
    folder = str(tables("mimic3"))
    as_json = CliRunner().invoke(app, ["check", folder, "--json"])
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout)["tasks"][0]["eligible"] == 4
    as_text = CliRunner().invoke(app, ["check", folder])
    assert as_text.exit_code == 0
    assert "mimic-iii" in as_text.stdout
    assert "This folder can be used." in as_text.stdout


def test_command_exits_4_when_no_task_can_use_the_folder(tables: Tables) -> None:
    folder = tables("mimic3")
    (folder / "PATIENTS.csv").unlink()
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 4
    assert "FW-DATA-009" in result.stdout
