"""Fixtures of the seven hospital layouts, changed cell by cell whatever the layout writes its tables in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedward.client.folder import check_folder
from tests.unit.client.corpora.tables import change, change_rows

SAME = "formats/ehr-same-patients"
NOTES_OF_EICU = (
    "noteid,patientunitstayid,noteoffset,noteenteredoffset,notetype,notepath,notevalue,notetext\n"
    '1,1001,19,22,Admission,notes/History/Comments,Comments,"First line, ""quoted"".\nSecond line."\n'
    "2,1003,7,7,Admission,notes/Neurologic/Seizures/denies seizures,denies seizures,denies seizures\n"
)


@dataclass(frozen=True)
class Layout:
    """Where a layout has what every layout has.

    Attributes:
        fixture: its folder.
        cells: file, column and row by what stands there: the ``person`` of the table of persons, the ``stay``, its
            ``start`` and ``end``, a measured ``value``, the time ``when``, and ``whose`` it is, the ``text`` of a note.
        told: what a message calls a column, where that is not its name in capitals.
    """

    fixture: str
    cells: dict[str, tuple[str, str, int]]
    told: dict[str, str] = field(default_factory=dict)

    def file(self, what: str) -> str:
        """The file as messages name it."""
        file = self.cells[what][0]
        return file.removeprefix("data/") if file.endswith(".parquet") else Path(file).name

    def column(self, what: str) -> str:
        """The column as messages name it."""
        return self.told.get(what, self.cells[what][1].upper())

    def row(self, what: str) -> int:
        """The row as messages number it: the header is row 1, and resources are numbered from 1."""
        return self.cells[what][2]

    def write(self, folder: Path, what: str, cell: Any) -> None:
        """Changes one cell."""
        file, column, row = self.cells[what]
        path = folder / file
        if path.suffix == ".parquet":
            change_parquet(path, lambda rows: rows[row - 2].__setitem__(column, cell))
        elif path.suffix == ".ndjson":
            change_json(path, row, column, cell)
        else:
            change_rows(path, column, {row: str(cell)})


LAYOUTS = {
    "mapped": Layout(
        "formats/mapped",
        {
            "person": ("Patienten.csv", "Pat-Nr", 2), "stay": ("Intensiv.csv", "Aufenthalt", 3),
            "start": ("Intensiv.csv", "von", 3), "end": ("Intensiv.csv", "bis", 3), "value": ("Labor.csv", "Wert", 2),
            "when": ("Labor.csv", "Zeit", 2), "whose": ("Labor.csv", "Fall-Nr", 2), "text": ("Notizen.csv", "Text", 2),
            "birth": ("Patienten.csv", "Geb-Datum", 2),
        },
    ),
    "mimic-iii": Layout(
        "mimic3",
        {
            "person": ("PATIENTS.csv", "SUBJECT_ID", 2), "stay": ("ICUSTAYS.csv", "ICUSTAY_ID", 3),
            "start": ("ICUSTAYS.csv", "INTIME", 3), "end": ("ICUSTAYS.csv", "OUTTIME", 3),
            "value": ("LABEVENTS.csv", "VALUENUM", 3), "when": ("LABEVENTS.csv", "CHARTTIME", 3),
            "whose": ("LABEVENTS.csv", "SUBJECT_ID", 3), "text": ("NOTEEVENTS.csv", "TEXT", 2),
            "birth": ("PATIENTS.csv", "DOB", 2),
        },
    ),
    "mimic-iv": Layout(
        f"{SAME}/mimic-iv",
        {
            "person": ("hosp/patients.csv.gz", "subject_id", 2), "stay": ("icu/icustays.csv.gz", "stay_id", 3),
            "start": ("icu/icustays.csv.gz", "intime", 3), "end": ("icu/icustays.csv.gz", "outtime", 3),
            "value": ("hosp/labevents.csv.gz", "valuenum", 2), "when": ("hosp/labevents.csv.gz", "charttime", 2),
            "whose": ("hosp/labevents.csv.gz", "subject_id", 2), "text": ("note/discharge.csv.gz", "text", 2),
            "birth": ("hosp/patients.csv.gz", "anchor_age", 2),
        },
    ),
    "eicu": Layout(
        "eicu",
        {
            "person": ("patient.csv", "uniquepid", 3), "stay": ("patient.csv", "patientunitstayid", 3),
            "start": ("infusiondrug.csv", "infusionoffset", 2), "end": ("patient.csv", "unitdischargeoffset", 3),
            "value": ("apacheapsvar.csv", "heartrate", 2), "when": ("infusiondrug.csv", "infusionoffset", 2),
            "whose": ("apacheapsvar.csv", "patientunitstayid", 2), "text": ("note.csv", "notetext", 2),
            "birth": ("patient.csv", "age", 3),
        },
    ),
    "omop": Layout(
        f"{SAME}/omop",
        {
            "person": ("person.csv", "person_id", 2), "stay": ("visit_detail.csv", "visit_detail_id", 3),
            "start": ("visit_detail.csv", "visit_detail_start_datetime", 3),
            "end": ("visit_detail.csv", "visit_detail_end_datetime", 3),
            "value": ("measurement.csv", "value_as_number", 2), "when": ("measurement.csv", "measurement_datetime", 2),
            "whose": ("measurement.csv", "person_id", 2), "text": ("note.csv", "note_text", 2),
            "birth": ("person.csv", "year_of_birth", 2),
        },
    ),
    "fhir": Layout(
        f"{SAME}/fhir",
        {
            "person": ("Patient.000.ndjson", "id", 1), "stay": ("Encounter.000.ndjson", "id", 7),
            "start": ("Encounter.000.ndjson", "period.start", 7), "end": ("Encounter.000.ndjson", "period.end", 7),
            "value": ("Observation.000.ndjson", "valueQuantity.value", 1),
            "when": ("Observation.000.ndjson", "effectiveDateTime", 1),
            "whose": ("Observation.000.ndjson", "subject.reference", 1),
            "text": ("DocumentReference.000.ndjson", "description", 1), "birth": ("Patient.000.ndjson", "birthDate", 1),
        },
        {"start": "period", "end": "period", "when": "effective", "whose": "subject"},
    ),
    "meds": Layout(
        f"{SAME}/meds",
        {
            "person": ("data/train/0.parquet", "subject_id", 3), "stay": ("data/train/0.parquet", "code", 6),
            "start": ("data/train/0.parquet", "time", 6), "end": ("data/train/0.parquet", "time", 11),
            "value": ("data/train/0.parquet", "numeric_value", 7), "when": ("data/train/0.parquet", "time", 7),
            "whose": ("data/train/0.parquet", "subject_id", 7), "text": ("data/train/0.parquet", "text_value", 12),
            "birth": ("data/train/0.parquet", "time", 3),
        },
        {"end": "the stay"},
    ),
}  # fmt: skip


def folder_of(tables: Callable[[str], Path], layout: str) -> Path:
    """A copy of the fixture of a layout; that of eICU with notes."""
    folder = tables(LAYOUTS[layout].fixture)
    if layout == "eicu":
        (folder / "note.csv").write_text(NOTES_OF_EICU, encoding="utf-8")
    return folder


def change_parquet(path: Path, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Lets ``edit`` change the rows of a parquet file."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def change_json(path: Path, number: int, key: str, value: Any) -> None:
    """Changes what stands under a key of the resource ``number``; parts of the key are separated by points."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    record = json.loads(lines[number - 1])
    *above, last = key.split(".")
    place = record
    for part in above:
        place = place[part]
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    lines[number - 1] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def said(folder: Path) -> list[str]:
    """What ``fedward data check`` says of a folder: what stops it, and what was left out where."""
    report = check_folder(folder)
    notes = check_folder(folder, task="clm") if report.format else report
    found = [f"{each.code} {each.message}" for each in (*report.problems, *notes.problems)]
    for drops in (report.drops, notes.drops):
        found += [f"{key[0]}, row {drops.first.get(key)}: {key[1]}" for key in drops.counts]
    return found


def repeat_row(path: Path, row: int) -> None:
    """Writes a row of a table, or a resource, once more at its end."""
    if path.suffix == ".parquet":
        change_parquet(path, lambda rows: rows.append(dict(rows[row - 2])))
    elif path.suffix == ".ndjson":
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        path.write_text("\n".join([*lines, lines[row - 1]]) + "\n", encoding="utf-8")
    else:
        change(path, lambda header, rows: rows.append(list(rows[row - 2])))


def rename_column(path: Path, column: str, new: str) -> None:
    """Calls a column something else."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([new if name == column else name for name in table.column_names]), path)
    else:
        change(path, lambda header, rows: header.__setitem__(header.index(column), new))


def packed(path: Path) -> Path:
    """The same file packed with gzip under its name with ``.gz``."""
    if path.suffix in (".gz", ".parquet"):
        return path
    other = path.with_name(f"{path.name}.gz")
    other.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return other


def moment(text: str) -> datetime:
    """A time for a column of parquet."""
    return datetime.fromisoformat(text)
