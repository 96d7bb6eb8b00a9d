"""Notes of hospitals as running text: every layout gives them, with the person as unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedward.client.corpora import CORPORA, Item, StayCorpus
from fedward.client.corpora.excluding import excluding
from fedward.client.data.drops import Drops
from fedward.client.data.exclusions import Exclusions
from fedward.client.preparation.prepare import Settings, prepare
from tests.unit.client.corpora.tables import change_rows

Tables = Callable[[str], Path]
SAME = "formats/ehr-same-patients"
LAYOUTS = {
    "mapped": "formats/mapped",
    "mimic-iii": "mimic3",
    "mimic-iv": f"{SAME}/mimic-iv",
    "eicu": "eicu",
    "omop": f"{SAME}/omop",
    "fhir": f"{SAME}/fhir",
    "meds": f"{SAME}/meds",
}
UNITS = {
    "mapped": ["21", "21"],
    "mimic-iii": ["11"] * 5 + ["12"],
    "eicu": ["001-1", "001-1", "001-2"],
    "fhir": ["p10001", "p10003"],
    "mimic-iv": ["10001", "10003"],
    "omop": ["10001", "10003"],
    "meds": ["10001", "10003"],
}
"""Units of the notes of each fixture, in the order in which they stand there."""

EICU_NOTES = """noteid,patientunitstayid,noteoffset,noteenteredoffset,notetype,notepath,notevalue,notetext
1,1001,19,22,Admission,notes/Progress Notes/Social History/Smoking Status/denies smoking,denies smoking,denies smoking
2,1001,19,22,Admission,notes/Progress Notes/Physical Exam/HR/HR Highest,HR Highest,111
3,1001,19,22,Admission,notes/Shared/View and Save/Save Options/Print/Copies/Copies,Copies,1
4,1001,40,41,Daily Progress,notes/Progress Notes/Assessment and Plan/Comments,Comments,"Better, ""no"" fever.
Walks alone."
5,1003,5,6,Admission,notes/Progress Notes/Assessment and Plan/View Options/System View,System View,SystemView
6,1003,7,7,Admission,notes/Progress Notes/Neurologic/Seizures/denies seizures,denies seizures,denies seizures
7,9999,7,7,Admission,notes/Progress Notes/Neurologic/Seizures/denies seizures,denies seizures,denies seizures
"""


def folder_of(tables: Tables, layout: str) -> Path:
    folder = tables(LAYOUTS[layout])
    if layout == "eicu":
        (folder / "note.csv").write_text(EICU_NOTES, encoding="utf-8")
    return folder


def notes(folder: Path, layout: str, drops: Drops | None = None) -> list[Item]:
    return list(CORPORA[layout].documents(folder, drops))


def test_every_layout_of_stays_is_here() -> None:
    assert set(LAYOUTS) == {name for name, corpus in CORPORA.items() if isinstance(corpus, StayCorpus)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_note_has_its_person_and_its_words(tables: Tables, layout: str) -> None:
    drops = Drops()
    found = notes(folder_of(tables, layout), layout, drops)
    assert [item.unit for item in found] == UNITS[layout]
    assert all(item.texts["text"].strip() for item in found)
    assert all((item.time is None) == (layout == "eicu") for item in found)  # eICU tells minutes alone
    assert sum(drops.used.values()) >= len(found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_notes_of_a_person_who_opted_out_are_not_read(tables: Tables, tmp_path: Path, layout: str) -> None:
    person = UNITS[layout][0]
    left = excluding(CORPORA[layout], Exclusions([person], "optout.txt"))
    drops = Drops()
    found = list(left.documents(folder_of(tables, layout), drops))
    assert [item.unit for item in found] == [unit for unit in UNITS[layout] if unit != person]
    assert drops.counts["optout.txt", "the person has opted out"] == UNITS[layout].count(person)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_notes_are_prepared_by_person(tables: Tables, tmp_path: Path, layout: str) -> None:
    card = prepare(folder_of(tables, layout), tmp_path / "out", Settings(tmp_path / "keys" / "key"))
    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert {"patient_id", "text"} <= set(json.loads(lines[0]))
    assert card.read == len(UNITS[layout])
    assert card.units <= len(set(UNITS[layout]))
    assert all("555-0142" not in line and "Carver" not in line for line in lines)


def test_notes_of_discharge_and_without_time_count_and_errors_do_not(tables: Tables) -> None:
    drops = Drops()
    found = [item.texts["text"] for item in notes(tables("mimic3"), "mimic-iii", drops)]
    assert found[0].startswith("Mrs. Carver") and found[0].endswith("call 555-0142.") and "\n" in found[0]
    assert "Undated in hours: seizure." in found and "Discharged home." in found
    assert not any("amputation" in text for text in found)
    assert drops.counts == {("NOTEEVENTS.csv", "ISERROR is set"): 1}
    assert drops.first == {("NOTEEVENTS.csv", "ISERROR is set"): 4}


@pytest.mark.parametrize(
    ("layout", "file", "person", "of"),
    [
        ("mimic-iii", "NOTEEVENTS.csv", "SUBJECT_ID", "PATIENTS"),
        ("mimic-iv", "note/discharge.csv.gz", "subject_id", "PATIENTS"),
        ("omop", "note.csv", "person_id", "PERSON"),
        ("mapped", "Notizen.csv", "Pat-Nr", "Patienten.csv"),
    ],
)
def test_notes_of_nobody_are_counted_by_row(tables: Tables, layout: str, file: str, person: str, of: str) -> None:
    folder, drops, name = tables(LAYOUTS[layout]), Drops(), Path(file).name
    change_rows(folder / file, person, {2: "", 3: "777"})
    assert len(notes(folder, layout, drops)) == len(UNITS[layout]) - 2
    wanted = {(name, f"{person.upper()} is empty"): 2, (name, f"{person.upper()} is not in {of}"): 3}
    assert wanted.items() <= drops.first.items()


def test_notes_of_eicu_are_the_lines_entered_together(tables: Tables) -> None:
    drops = Drops()
    first, second, third = notes(folder_of(tables, "eicu"), "eicu", drops)
    assert first.texts["text"] == "Smoking Status: denies smoking\nHR Highest: 111"
    assert second.texts["text"] == 'Comments: Better, "no" fever.\nWalks alone.'
    assert third.texts["text"] == "denies seizures"
    assert (first.group, first.groups, third.group) == ("midwest", {"site": "1"}, "unknown")
    assert drops.first == {
        ("note.csv", "a note without words"): 6, ("note.csv", "PATIENTUNITSTAYID is not in PATIENT"): 8,
    }  # fmt: skip


def test_notes_of_meds_are_long_or_called_so_and_keep_their_split(tables: Tables) -> None:
    folder = tables(LAYOUTS["meds"])
    path = folder / "data" / "held_out" / "0.parquet"
    table = pq.read_table(path)
    row = dict.fromkeys(table.column_names) | {"subject_id": 10002}
    told = [
        ("LAB//51003//ng/mL", "HEMOLYZED"),
        ("LOINC/34109-9", "Long words. " * 20),
        ("RADIOLOGY_NOTE//CT", "No bleeding."),
        ("NOTE//DS", " "),
    ]
    rows = [{**row, "code": code, "text_value": text} for code, text in told]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]), path)
    drops = Drops()
    found = [item for item in notes(folder, "meds", drops) if item.unit == "10002"]
    assert [item.texts["text"][:10] for item in found] == ["Long words", "No bleedin"]
    assert all(item.held_out for item in found)
    assert drops.first == {("held_out/0.parquet", "TEXT_VALUE is empty"): 22}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_without_notes_gives_none(tables: Tables, layout: str) -> None:
    folder = tables(LAYOUTS[layout])
    if layout == "mapped":
        text = (folder / "mapping.toml").read_text(encoding="utf-8")
        before, _, after = text.partition("[notes.")
        rest = after[after.index("\n[", after.index("\n[") + 1) :] if after.count("\n[") > 1 else ""
        (folder / "mapping.toml").write_text(before + rest, encoding="utf-8")
    elif layout == "meds":
        for path in folder.glob("data/*/*.parquet"):
            pq.write_table(pq.read_table(path).drop_columns(["text_value"]), path)
    else:
        for path in (*folder.glob("*[nN][oO][tT][eE]*"), *folder.glob("note/*"), *folder.glob("DocumentReference*")):
            path.unlink() if path.is_file() else None
    assert notes(folder, layout) == []
