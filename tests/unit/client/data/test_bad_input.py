"""Every unusable folder gives one sentence with a code, names table and column, and never a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.data import load_examples
from fedward.client.data.errors import (
    BrokenReferenceError,
    DuplicatePatientError,
    EmptyHospitalError,
    MissingColumnError,
    MissingFolderError,
    MissingTableError,
    OneClassError,
    UnknownFormatError,
    UnreadableTableError,
    WrongTypeError,
)
from fedward.errors import DataError

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]

MIMIC_CASES = [
    ("LABEVENTS", "VALUENUM", "AMOUNT", MissingColumnError, "VALUENUM"),
    ("LABEVENTS", ",5.5,mmol", ",high,mmol", WrongTypeError, "VALUENUM"),
    ("LABEVENTS", ",5.5,mmol", ",nan,mmol", WrongTypeError, "VALUENUM"),
    ("LABEVENTS", "2120-03-01 12:00:00,5.5", "noon,5.5", WrongTypeError, "CHARTTIME"),
    ("PATIENTS", "2050-06-01 00:00:00", "1 June", WrongTypeError, "DOB"),
    ("PATIENTS", "2,12,M", "2,11,M", DuplicatePatientError, "PATIENTS"),
    ("PATIENTS", "2,12,M", "2,77,M", BrokenReferenceError, "SUBJECT_ID"),
    ("ADMISSIONS", "5,14,141", "5,14,777", BrokenReferenceError, "HADM_ID"),
    ("ADMISSIONS", "5,14,141", "5,13,141", BrokenReferenceError, "HADM_ID"),
    ("ADMISSIONS", "SEPSIS;PNEUMONIA \\ TELEMETRY\",0", "SEPSIS;PNEUMONIA \\ TELEMETRY\",no", WrongTypeError, "EXPIRE"),
    ("ICUSTAYS", "111,201", "111,202", DuplicatePatientError, "ICUSTAY_ID"),
    ("ICUSTAYS", "2120-03-05 08:00:00,4", "2120-03-05 08:00:00", UnreadableTableError, "ICUSTAYS"),
    ("NOTEEVENTS", "555-0142.\"", "555-0142.", UnreadableTableError, "NOTEEVENTS"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "old", "new", "error", "named"), MIMIC_CASES)
def test_mimic_tables(
    tables: Tables, edit: Edit, table: str, old: str, new: str, error: type[DataError], named: str
) -> None:
    folder = tables("mimic3")
    edit(folder / f"{table}.csv", old, new)
    with pytest.raises(error) as caught:
        load_examples(folder, format="mimic-iii", task="mortality")
    assert table in caught.value.message
    assert named in caught.value.message
    assert caught.value.exit_code == 4
    assert caught.value.fix
    assert all(value not in caught.value.message for value in ("noon", "1 June", "777", "77", "202"))


@pytest.mark.parametrize(
    ("table", "old", "new", "error"),
    [
        ("patient", "1002,502", "1001,502", DuplicatePatientError),
        ("patient", "2880,Floor", "two days,Floor", WrongTypeError),
        ("apacheapsvar", ",38.7,", ",hot,", WrongTypeError),
        ("apacheapsvar", "meanbp", "map", MissingColumnError),
        ("apachepredvar", "1,1001,0,0,0,0,0,0,0,1,", "1,1001,0,0,0,0,0,0,0,yes,", WrongTypeError),
        ("infusiondrug", "1,1001,100", "1,1001,early", WrongTypeError),
    ],
)
def test_eicu_tables(tables: Tables, edit: Edit, table: str, old: str, new: str, error: type[DataError]) -> None:
    folder = tables("eicu")
    edit(folder / f"{table}.csv", old, new)
    with pytest.raises(error, match=table.upper()):
        load_examples(folder, format="eicu", task="mortality")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00broken", b'ROW_ID,SUBJECT_ID\n1,"2'])
def test_not_csv(tables: Tables, content: bytes) -> None:
    folder = tables("mimic3")
    (folder / "PATIENTS.csv").write_bytes(content)
    with pytest.raises(DataError, match="PATIENTS"):
        load_examples(folder, format="mimic-iii", task="mortality")


@pytest.mark.parametrize("content", [b"no gzip at all", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc"])
def test_damaged_gzip(tables: Tables, content: bytes) -> None:
    folder = tables("mimic3")
    (folder / "PATIENTS.csv").unlink()
    (folder / "PATIENTS.csv.gz").write_bytes(content)
    with pytest.raises(UnreadableTableError, match="PATIENTS"):
        load_examples(folder, format="mimic-iii", task="mortality")


def test_missing_table_and_folder(tables: Tables, tmp_path: Path) -> None:
    folder = tables("mimic3")
    (folder / "ICUSTAYS.csv").unlink()
    with pytest.raises(MissingTableError, match="ICUSTAYS"):
        load_examples(folder, format="mimic-iii", task="mortality")
    with pytest.raises(MissingFolderError):
        load_examples(tmp_path / "nowhere", format="mimic-iii", task="mortality")


def test_empty_hospital(tables: Tables) -> None:
    folder = tables("mimic3")
    path = folder / "ICUSTAYS.csv"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(EmptyHospitalError):
        load_examples(folder, format="mimic-iii", task="mortality")


def test_one_outcome_only(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3")
    edit(folder / "ADMISSIONS.csv", "STROKE,1,1", "STROKE,0,1")
    edit(folder / "ADMISSIONS.csv", "2120-03-06 12:00:00,2120-03-06 12:00:00", "2120-03-06 12:00:00,")
    with pytest.raises(OneClassError, match="mortality"):
        load_examples(folder, format="mimic-iii", task="mortality")


@pytest.mark.parametrize(("format", "task"), [("csv", "mortality"), ("mimic-iii", "fall")])
def test_unknown_names(tables: Tables, format: str, task: str) -> None:
    with pytest.raises(UnknownFormatError):
        load_examples(tables("mimic3"), format=format, task=task)
