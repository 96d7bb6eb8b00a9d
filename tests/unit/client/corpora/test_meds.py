from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fedward.client.corpora import detect
from fedward.client.corpora.meds import Meds
from fedward.client.data.events import Chosen, Event, Kind, Stay
from tests.codes import raises

Tables = Callable[[str], Path]
FIRST = "10001-21500301100000"


@pytest.fixture
def folder(tables: Tables) -> Path:
    return tables("formats/ehr-same-patients/meds")


def change(folder: Path, edit: Callable[[pa.Table], pa.Table], split: str = "train") -> None:
    path = folder / "data" / split / "0.parquet"
    pq.write_table(edit(pq.read_table(path)), path)


def add(folder: Path, **told: Any) -> None:
    """Adds an event of the first stay."""
    row = {
        "subject_id": 10001,
        "time": datetime(2150, 3, 1, 12),
        "numeric_value": None,
        "text_value": None,
        "hadm_id": 20001,
    }

    def longer(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table, pa.Table.from_pylist([{**row, **told}], schema=table.schema)])

    change(folder, longer)


def stays(folder: Path, *outcomes: str) -> dict[str, Stay]:
    return {stay.stay: stay for stay in Meds().stays(folder, outcomes)}


def events(folder: Path, stay: str = FIRST) -> list[Event]:
    return Meds().events(folder, [Chosen(each, 24.0) for each in stays(folder).values()])[stay]


def measured(folder: Path, name: str) -> list[float | None]:
    return [event.value for event in events(folder) if event.code == name]


def test_older_sets_say_patient_id(folder: Path) -> None:
    wanted = stays(folder), events(folder)
    for split in ("train", "held_out"):
        change(folder, lambda table: table.rename_columns(["patient_id", *table.column_names[1:]]), split)
    splits = folder / "metadata/subject_splits.parquet"
    pq.write_table(pq.read_table(splits).rename_columns(["patient_id", "split"]), splits)
    assert (stays(folder), events(folder)) == wanted


def test_codes_may_be_a_dictionary(folder: Path) -> None:
    wanted = stays(folder), events(folder)
    change(folder, lambda table: table.set_column(2, "code", pc.dictionary_encode(table["code"])))
    assert (stays(folder), events(folder)) == wanted


def test_shards_out_of_order_are_sorted(folder: Path) -> None:
    wanted = stays(folder), sorted(events(folder), key=lambda event: event.time)
    change(folder, lambda table: table.take(list(range(len(table)))[::-1]))
    assert (stays(folder), sorted(events(folder), key=lambda event: event.time)) == wanted


def test_a_subject_of_several_shards_is_one(folder: Path) -> None:
    wanted = stays(folder), events(folder)
    table = pq.read_table(folder / "data/train/0.parquet")
    pq.write_table(table.slice(0, 7), folder / "data/train/0.parquet")
    pq.write_table(table.slice(7), folder / "data/train/1.parquet")
    assert (stays(folder), events(folder)) == wanted


def test_held_out_subjects_never_train(folder: Path) -> None:
    assert {stay.patient: stay.held_out for stay in stays(folder).values()} == {
        "10001": False, "10002": True, "10003": False,
    }  # fmt: skip
    assert [item.held_out for item in Meds().items(folder)] == [False, True, False, False]
    (folder / "metadata/subject_splits.parquet").unlink()
    assert not any(stay.held_out for stay in stays(folder).values())


def test_codes_mean_what_the_set_says(folder: Path) -> None:
    add(folder, code="KREA", numeric_value=2.5)
    assert measured(folder, "creatinine") == [1.4]
    path = folder / "metadata/codes.parquet"
    told = pq.read_table(path).to_pylist()
    told.append({"code": "KREA", "description": "creatinine", "parent_codes": ["SNOMED/7", "LOINC/2160-0"]})
    pq.write_table(pa.Table.from_pylist(told), path)
    assert measured(folder, "creatinine") == [1.4, 2.5]


def test_known_prefixes_help_where_nothing_is_described(folder: Path) -> None:
    wanted = events(folder)
    (folder / "metadata/codes.parquet").unlink()
    assert events(folder) == wanted


def test_units_stand_in_the_code(folder: Path) -> None:
    add(folder, code="LAB//50912//umol/L", numeric_value=123.8)
    assert measured(folder, "creatinine") == pytest.approx([1.4, 1.4], abs=0.001)


def test_files_side_by_side_beside_labels(folder: Path) -> None:
    wanted = stays(folder)
    for split in ("train", "held_out"):
        (folder / f"data/{split}/0.parquet").rename(folder / f"{split}.parquet")
        (folder / "data" / split).rmdir()
    (folder / "data").rmdir()
    labels = {"subject_id": [10001], "prediction_time": [datetime(2150, 3, 2)], "boolean_value": [True]}
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    assert detect(folder) == (detect(folder)[0], folder)
    assert stays(folder) == wanted
    assert set(Meds().sizes(folder)) == {"held_out.parquet", "train.parquet"}


@pytest.mark.parametrize("place", ["broken.parquet", "data/train/1.parquet", "metadata/codes.parquet"])
def test_a_file_that_cannot_be_read_is_refused_not_skipped(folder: Path, place: str) -> None:
    if place == "broken.parquet":
        (folder / "data/train/0.parquet").rename(folder / "train.parquet")
        shutil.rmtree(folder / "data")
    (folder / place).write_bytes(b"PAR1")
    assert detect(folder)[0].name == "meds"
    with raises("FW-DATA-005", match=re.escape(place.removeprefix("data/"))):
        events(folder)


def test_a_file_below_data_without_the_columns_is_refused_not_skipped(folder: Path) -> None:
    pq.write_table(pa.table({"subject_id": [10001], "when": [1]}), folder / "data/train/1.parquet")
    with raises("FW-DATA-003", match="train/1.parquet has no column TIME, CODE"):
        stays(folder)


def test_births_and_deaths_may_have_a_suffix(folder: Path) -> None:
    wanted = stays(folder)

    def suffixed(table: pa.Table) -> pa.Table:
        codes = pc.replace_substring_regex(table["code"], "^(MEDS_(?:BIRTH|DEATH))$", r"\1//registry")
        return table.set_column(2, "code", codes)

    for split in ("train", "held_out"):
        change(folder, suffixed, split)
    assert stays(folder) == wanted


def test_a_death_long_after_discharge_is_none_in_hospital(folder: Path) -> None:
    add(folder, code="MEDS_DEATH", time=datetime(2150, 4, 20))
    assert not stays(folder)[FIRST].outcome.died


def test_diagnoses_belong_to_their_admission(folder: Path) -> None:
    add(folder, code="DIAGNOSIS//ICD//10//J18.9", time=datetime(2150, 3, 9, 12))
    add(folder, code="DIAGNOSIS//ICD//9//486", time=datetime(2150, 3, 9, 13), hadm_id=None)
    add(folder, code="DIAGNOSIS//ICD//9//4019", time=datetime(2150, 3, 9, 13), hadm_id=7)
    assert stays(folder, "diagnosis codes")[FIRST].outcome.codes == ("J189", "486")


def test_the_admission_diagnosis_and_notes_are_text(folder: Path) -> None:
    add(folder, code="ADMISSION_DIAGNOSIS", text_value="Pneumonia")
    add(folder, code="NOTE//Nursing", text_value="No fever.")
    told = [event.text for event in stays(folder)[FIRST].events if event.kind is Kind.DIAGNOSIS]
    assert told == ["Pneumonia"]
    assert [(event.code, event.text) for event in events(folder) if event.kind is Kind.NOTE] == [
        ("nursing", "No fever.")
    ]
