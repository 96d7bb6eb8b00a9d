"""Every unusable folder gives one sentence with a code, names table and column, and never a value."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.data import load_examples
from fedward.errors import DataError
from tests.codes import raises

pytestmark = pytest.mark.torch  # reading examples asks the tasks, which need it

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]

MIMIC_CASES = [
    ("LABEVENTS", "VALUENUM", "AMOUNT", "FW-DATA-003", "VALUENUM"),
    ("LABEVENTS", ",5.5,mmol", ",high,mmol", "FW-DATA-004", "VALUENUM"),
    ("LABEVENTS", ",5.5,mmol", ",inf,mmol", "FW-DATA-004", "VALUENUM"),
    ("LABEVENTS", "2120-03-01 12:00:00,5.5", "noon,5.5", "FW-DATA-004", "CHARTTIME"),
    ("PATIENTS", "2050-06-01 00:00:00", "1 June", "FW-DATA-004", "DOB"),
    ("PATIENTS", "2,12,M", "2,11,M", "FW-DATA-008", "PATIENTS"),
    ("PATIENTS", "2,12,M", "2,77,M", "FW-DATA-012", "SUBJECT_ID"),
    ("ADMISSIONS", "5,14,141", "5,14,777", "FW-DATA-012", "HADM_ID"),
    ("ADMISSIONS", "5,14,141", "5,13,141", "FW-DATA-012", "HADM_ID"),
    ("ADMISSIONS", "SEPSIS;PNEUMONIA \\ TELEMETRY\",0", "SEPSIS;PNEUMONIA \\ TELEMETRY\",2", "FW-DATA-004", "EXPIRE"),
    ("ICUSTAYS", "111,201", "111,202", "FW-DATA-008", "ICUSTAY_ID"),
    ("ICUSTAYS", "2120-03-05 08:00:00,4", "2120-03-05 08:00:00", "FW-DATA-005", "ICUSTAYS"),
    ("NOTEEVENTS", "555-0142.\"", "555-0142.", "FW-DATA-005", "NOTEEVENTS"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "old", "new", "code", "named"), MIMIC_CASES)
def test_mimic_tables(tables: Tables, edit: Edit, table: str, old: str, new: str, code: str, named: str) -> None:
    folder = tables("mimic3")
    edit(folder / f"{table}.csv", old, new)
    with raises(code) as caught:
        load_examples(folder, format="mimic-iii", task="mortality")
    assert table in caught.value.message
    assert named in caught.value.message
    assert caught.value.exit_code == 4
    assert caught.value.fix
    assert all(value not in caught.value.message for value in ("noon", "1 June", "777", "77", "202"))


@pytest.mark.parametrize(
    ("table", "old", "new", "code"),
    [
        ("patient", "1002,502", "1001,502", "FW-DATA-008"),
        ("patient", "2880,Floor", "two days,Floor", "FW-DATA-004"),
        ("apacheapsvar", ",38.7,", ",hot,", "FW-DATA-004"),
        ("apacheapsvar", "meanbp", "map", "FW-DATA-003"),
        ("apachepredvar", "1,1001,0,0,0,0,0,0,0,1,", "1,1001,0,0,0,0,0,0,0,yes,", "FW-DATA-004"),
        ("infusiondrug", "1,1001,100", "1,1001,early", "FW-DATA-004"),
    ],
)
def test_eicu_tables(tables: Tables, edit: Edit, table: str, old: str, new: str, code: str) -> None:
    folder = tables("eicu")
    edit(folder / f"{table}.csv", old, new)
    with raises(code, match=f"(?i){table}"):
        load_examples(folder, format="eicu", task="mortality")


@pytest.mark.parametrize(
    ("format", "folder", "table", "old", "new", "column"),
    [
        ("eicu", "eicu", "patient", "Alive,001-4", "Alive,", "patient.csv, row ., column UNIQUEPID"),
        ("mimic-iii", "mimic3", "PATIENTS", "2,12,M", "2, ,M", "PATIENTS.csv, row ., column SUBJECT_ID"),
    ],
)
def test_persons_without_identifier_are_not_one_unit(
    tables: Tables, edit: Edit, format: str, folder: str, table: str, old: str, new: str, column: str
) -> None:
    root = tables(folder)
    edit(root / f"{table}.csv", old, new)
    with raises("FW-DATA-004", match=f"(?i){column}: not an identifier"):
        load_examples(root, format=format, task="mortality")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00broken", b'ROW_ID,SUBJECT_ID\n1,"2'])
def test_not_csv(tables: Tables, content: bytes) -> None:
    folder = tables("mimic3")
    (folder / "PATIENTS.csv").write_bytes(content)
    with pytest.raises(DataError, match="PATIENTS"):
        load_examples(folder, format="mimic-iii", task="mortality")


@pytest.mark.parametrize("content", [b"\x1f\x8b no gzip at all", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc"])
def test_damaged_gzip(tables: Tables, content: bytes) -> None:
    folder = tables("mimic3")
    (folder / "PATIENTS.csv").unlink()
    (folder / "PATIENTS.csv.gz").write_bytes(content)
    with raises("FW-DATA-005", match="PATIENTS"):
        load_examples(folder, format="mimic-iii", task="mortality")


def test_missing_table_and_folder(tables: Tables, tmp_path: Path) -> None:
    folder = tables("mimic3")
    (folder / "ICUSTAYS.csv").unlink()
    with raises("FW-DATA-002", match="ICUSTAYS"):
        load_examples(folder, format="mimic-iii", task="mortality")
    with raises("FW-DATA-011"):
        load_examples(tmp_path / "nowhere", format="mimic-iii", task="mortality")


def test_empty_hospital(tables: Tables) -> None:
    folder = tables("mimic3")
    path = folder / "ICUSTAYS.csv"
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with raises("FW-DATA-006"):
        load_examples(folder, format="mimic-iii", task="mortality")


def test_one_outcome_only(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3")
    edit(folder / "ADMISSIONS.csv", "STROKE,1,1", "STROKE,0,1")
    edit(folder / "ADMISSIONS.csv", "2120-03-06 12:00:00,2120-03-06 12:00:00", "2120-03-06 12:00:00,")
    with raises("FW-DATA-007", match="mortality"):
        load_examples(folder, format="mimic-iii", task="mortality")


@pytest.mark.parametrize(
    ("format", "task", "code"), [("csv", "mortality", "FW-DATA-009"), ("mimic-iii", "fall", "FW-CONFIG-040")]
)
def test_unknown_names(tables: Tables, format: str, task: str, code: str) -> None:
    with raises(code):
        load_examples(tables("mimic3"), format=format, task=task)


@pytest.mark.parametrize("packed", [False, True])
def test_another_encoding_is_named_with_its_row(tables: Tables, packed: bool) -> None:
    folder = tables("mimic3")
    path = folder / "NOTEEVENTS.csv"
    content = path.read_bytes().replace(b"intubated", "intub\u00e9".encode("latin-1"))
    path.unlink()
    (folder / "NOTEEVENTS.csv.gz" if packed else path).write_bytes(
        gzip.compress(content, mtime=0) if packed else content
    )
    with raises("FW-DATA-005", match="NOTEEVENTS.*is not encoded as UTF-8: row 3"):
        load_examples(folder, format="mimic-iii", task="mortality")
