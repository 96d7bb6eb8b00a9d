"""Persons who opted out: never read into any task, in every layout with persons, and counted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.client.corpora import CORPORA, StayCorpus, corpus_named
from fedward.client.corpora.excluding import excluding
from fedward.client.data.drops import Drops
from fedward.client.data.exclusions import Exclusions, spelled
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from fedward.errors import DataError
from tests.codes import raises

Tables = Callable[[str], Path]
SAME = "formats/ehr-same-patients"
LAYOUTS = {
    "mapped": ("formats/mapped", "21"),
    "mimic-iii": ("mimic3-several", "21"),
    "mimic-iv": (f"{SAME}/mimic-iv", "10003"),
    "eicu": ("eicu", ""),
    "omop": (f"{SAME}/omop", "10003"),
    "fhir": (f"{SAME}/fhir", ""),
    "meds": (f"{SAME}/meds", "10003"),
}
"""Fixture of each layout of stays, and a patient of it; where none is named, the first."""


def test_every_layout_of_stays_is_here() -> None:
    assert set(LAYOUTS) == {name for name, corpus in CORPORA.items() if isinstance(corpus, StayCorpus)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_person_of_the_list_is_in_no_record_of_any_layout(tables: Tables, tmp_path: Path, layout: str) -> None:
    name, person = LAYOUTS[layout]
    folder, corpus = tables(name), corpus_named(layout)
    everybody = {stay.patient for stay in corpus.stays(folder)}
    person = person or min(everybody)
    listed = tmp_path / "optout.txt"
    listed.write_text(f"{person}{'.0' * person.isdigit()}\nnobody-17\n", encoding="utf-8")
    excluded, drops = Exclusions.read(listed), Drops()
    left = excluding(corpus, excluded)
    assert {stay.patient for stay in left.stays(folder, (), drops)} == everybody - {person}
    assert {item.unit for item in left.items(folder)} == everybody - {person}
    assert person not in {item.unit for item in left.documents(folder)}
    assert (excluded.persons, excluded.unmatched) == (1, 1)
    assert drops.counts["optout.txt", "the person has opted out"] >= 1
    assert (left.name, left.required, left.gives) == (corpus.name, corpus.required, corpus.gives)


@pytest.mark.torch
@pytest.mark.parametrize("task", ["mortality", "los-days", "readmission"])
def test_a_task_has_no_example_of_them_and_all_others(tables: Tables, tmp_path: Path, task: str) -> None:
    folder, listed = tables("mimic3-several"), tmp_path / "optout.csv"
    listed.write_text("name;Patient-ID\nx; 23 \n", encoding="utf-8-sig")
    before = load_examples(folder, format="mimic-iii", task=task)
    after = load_examples(folder, format="mimic-iii", task=task, exclude=listed)
    assert after == [example for example in before if example.unit != "23"] != before


def test_records_that_name_persons_follow_the_list(tables: Tables, tmp_path: Path) -> None:
    folder, listed = tables("formats/person_documents"), tmp_path / "optout"
    listed.write_text("7\n", encoding="utf-8")
    report = check_folder(folder, exclude=listed)
    corpus = excluding(corpus_named("person-documents"), Exclusions.read(listed))
    units = {item.unit for item in corpus.items(folder)}
    assert "7" not in units
    assert "007" in units, "may be another person"
    # The list names 7, who was met, so that 007 is nobody's misspelling.
    assert report.excluded == {"persons": 1, "unmatched": 0}


def test_a_list_without_the_leading_zeros_of_the_tables_stops_reading(tables: Tables, tmp_path: Path) -> None:
    folder, listed = tables("mimic3"), tmp_path / "optout"
    listed.write_text("0011\n", encoding="utf-8")
    with raises("FW-DATA-071", match="1 identifiers"):
        load_examples(folder, format="mimic-iii", task="mortality", exclude=listed)
    report = check_folder(folder, exclude=listed)
    assert [problem.code for problem in report.stops] == ["FW-DATA-071"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "FW-DATA-070"),
        (b"  \n\n", "FW-DATA-070"),
        ("病人,号\n7,8\n".encode("gb18030"), "FW-DATA-070"),
        (b"ward,bed\n7,8\n", "FW-DATA-070"),
        (b"patient_id,bed\n7\n", "FW-DATA-070"),
        (b'"7\n8\n', "FW-DATA-070"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    listed = tmp_path / "optout"
    listed.write_bytes(content)
    with raises(code):
        Exclusions.read(listed)
    with raises(code):
        Exclusions.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "persons"),
    [
        ("7\r\n8\r\n\r\n", {"7", "8"}),
        ("\ufeffsubject_id\n7\n8.0\nNA\n", {"7", "8"}),
        ("Pat-Nr\n007\n008\n", {"007", "008"}),
        ("ward\tMRN\nA\t7\nA\t7\n", {"7"}),
        ("patient_id\n", set()),
        ("Patient/7\nhttps://ehr/fhir/Patient/8\nurn:uuid:ab\n", {"7", "8", "ab"}),
    ],
)
def test_ways_to_write_a_list(tmp_path: Path, content: str, persons: set[str]) -> None:
    listed = tmp_path / "optout"
    listed.write_text(content, encoding="utf-8", newline="")
    assert Exclusions.read(listed).identifiers == persons


def test_spelling_is_that_of_the_readers() -> None:
    assert [spelled(cell) for cell in (" 7 ", "7.0", "07", "-7.00", "a.0", "NULL")] == ["7", "7", "07", "-7", "a.0", ""]


def test_records_of_nobody_have_no_list(tables: Tables, tmp_path: Path) -> None:
    listed = tmp_path / "optout"
    listed.write_text("7\n", encoding="utf-8")
    report = check_folder(tables("pubmedqa"), exclude=listed)
    assert [problem.code for problem in report.stops] == ["FW-DATA-070"]


def test_data_check_counts_them(tables: Tables, tmp_path: Path) -> None:
    listed = tmp_path / "optout"
    listed.write_text("11\n12\n99\n", encoding="utf-8")
    run = CliRunner().invoke(app, ["check", str(tables("mimic3")), "--exclude", str(listed), "--json"])
    found = json.loads(run.output)
    assert found["excluded"] == {"persons": 2, "unmatched": 1}
    assert found["tasks"][0]["eligible"] == 2
    said = CliRunner().invoke(app, ["check", str(tmp_path / "mimic3"), "--exclude", str(listed)]).output
    assert "Excluded: 2 persons; 1 listed identifiers are of nobody here" in said


@given(st.binary(max_size=400))
def test_a_list_of_random_bytes_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "optout"
        listed.write_bytes(content)
        try:
            assert "" not in Exclusions.read(listed).identifiers
        except DataError as error:
            assert error.code == "FW-DATA-070"
