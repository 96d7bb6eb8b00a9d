from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from fedward.errors import table
from tests.codes import raises

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_mimic_folder(tables: Tables) -> None:
    assert check_folder(tables("mimic3")).to_value() == {
        "format": "mimic-iii",
        "title": "MIMIC-III (Johnson et al. 2016)",
        "licence": "PhysioNet Credentialed Health Data License 1.5.0",
        "usable": True,
        "read_whole": True,
        "unit": "patient",
        "rows": {"PATIENTS": 7, "ADMISSIONS": 8, "ICUSTAYS": 8, "LABEVENTS": 13, "NOTEEVENTS": 7},
        "patients": 7,
        "stays": 8,
        "groups": {},
        "tasks": [
            {"task": "mortality", "eligible": 4, "records": 4, "positives": 1},
            {"task": "los3", "eligible": 3, "records": 3, "positives": 1},
            {"task": "los-days", "eligible": 3, "records": 4, "mean": 0.9375},
            {
                "task": "readmission",
                "eligible": 3,
                "records": 4,
                "positives": 0,
                "problem": {
                    "code": "FW-DATA-007",
                    "message": "The 4 eligible records of 'readmission' have one label.",
                    "fix": table()["FW-DATA-007"].fix,
                },
            },
            {
                "task": "discharge",
                "eligible": 4,
                "records": 5,
                "classes": {"home": 4, "facility": 0, "died": 1, "other": 0},
            },
        ],
        "unserved": {"phenotypes": "The table DIAGNOSES_ICD is missing."},
        "notes": 2,
        "times": ["2120-03-01", "2121-01-01"],
        "languages": {"en": 6},
        "unrepresented": {},
        "dropped": [
            {
                "table": "LABEVENTS.csv",
                "reason": "sodium is outside the plausible range in mmol/L",
                "count": 1,
                "first_row": 7,
            },
            {"table": "NOTEEVENTS.csv", "reason": "CHARTTIME has no time of day", "count": 1, "first_row": 5},
        ],
        "remarks": [],
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


FIRST_NOTE = "Mrs. Carver, MRN 4471902, confused."


def test_notes_without_rules_are_counted_by_language_and_refused(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3")
    edit(folder / "NOTEEVENTS.csv", FIRST_NOTE, "Patiente confuse et fébrile, avec une toux depuis trois jours.")
    edit(
        folder / "NOTEEVENTS.csv",
        'No fever. Daughter Anna said ""worse since Friday"", call 555-0142.',
        "Pas de dyspnée.",
    )
    report = check_folder(folder)
    assert report.languages == {"en": 5, "fr": 1}
    assert [problem.code for problem in report.problems] == ["FW-DATA-020", "FW-DATA-007"]
    assert "fr (1)" in report.problems[0].message
    assert not report.usable
    assert [task.eligible for task in report.tasks][:2] == [4, 3]
    assert check_folder(folder, leave_out=True).usable
    with raises("FW-DATA-020", match=r"fr \(1\)"):
        load_examples(folder, format="mimic-iii", task="mortality")
    left = load_examples(folder, format="mimic-iii", task="mortality", leave_out=True)
    assert not any("fébrile" in example.text for example in left)


@pytest.mark.torch
def test_command_says_what_a_model_cannot_read(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3")
    edit(
        folder / "NOTEEVENTS.csv",
        FIRST_NOTE,
        "患者は56歳の男性で、糖尿病を10年わずらっている。最近は胸の苦しさがある。咳と痰があり、熱もある。胸の痛みはない。",
    )
    command = ["check", str(folder), "--model", "tiny-clinical"]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 4
    found = json.loads(result.stdout)
    assert found["unrepresented"]["en"] == 0
    assert 0.3 < found["unrepresented"]["ja"] < 0.9
    assert [problem["code"] for problem in found["problems"]] == ["FW-DATA-021", "FW-DATA-020", "FW-DATA-007"]
    assert "患" not in result.stdout
    as_text = CliRunner().invoke(app, command).stdout
    assert "FW-DATA-021" in as_text
    assert "患" not in as_text
    assert CliRunner().invoke(app, [*command, "--leave-out"]).exit_code == 0


def test_a_folder_of_questions_speaks_of_questions(tables: Tables) -> None:
    folder = tables("pubmedqa")
    value = check_folder(folder).to_value()
    assert (value["unit"], value["questions"], value["records"]) == ("question", 4, 4)
    assert value["tasks"] == [
        {"task": "pubmedqa", "eligible": 3, "records": 3, "classes": {"yes": 1, "no": 1, "maybe": 1}}
    ]
    printed = CliRunner().invoke(app, ["check", str(folder)])
    assert printed.exit_code == 0
    assert "questions" in printed.stdout
    assert "patient" not in printed.stdout


def test_labels_outside_the_classes_are_a_problem_of_their_task(tables: Tables, edit: Edit) -> None:
    folder = tables("pubmedqa")
    edit(folder / "ori_pqal.json", '"final_decision": "yes"', '"final_decision": "perhaps"')
    report = check_folder(folder)
    assert [problem.code for problem in report.problems] == ["FW-DATA-032"]
    assert not report.usable


def test_counts_of_several_records_and_labels(tables: Tables) -> None:
    tasks = {task.task: task for task in check_folder(tables("mimic3-several")).tasks}
    assert (tasks["readmission"].eligible, tasks["readmission"].records, tasks["readmission"].positives) == (3, 4, 2)
    assert tasks["phenotypes"].classes["heart-failure"] == 2
    assert tasks["phenotypes"].classes["copd"] == 0
    assert tasks["los-days"].mean is not None


def test_texts_without_labels_are_counted_for_a_task_that_is_asked_for() -> None:
    folder = Path(__file__).parents[2] / "fixtures" / "formats" / "pubmed"
    (count,) = check_folder(folder, task="mlm").tasks
    assert (count.task, count.eligible, count.records, count.problem, count.words) == ("mlm", 1, 1, None, "texts")
    assert check_folder(folder).tasks == []
