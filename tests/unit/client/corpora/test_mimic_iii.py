from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.data import load_examples

pytestmark = pytest.mark.torch  # reading examples asks the tasks, which need it

Tables = Callable[[str], Path]


def mortality(folder: Path) -> dict[str, str]:
    return {example.patient_id: example.text for example in load_examples(folder, format="mimic-iii", task="mortality")}


def test_first_stay_labels_and_order(tables: Tables) -> None:
    examples = load_examples(tables("mimic3"), format="mimic-iii", task="mortality")
    assert [(example.patient_id, example.label) for example in examples] == [("11", 0), ("12", 1), ("13", 0), ("17", 0)]


def test_length_of_stay_needs_a_full_first_day(tables: Tables) -> None:
    examples = load_examples(tables("mimic3"), format="mimic-iii", task="los3")
    assert [(example.patient_id, example.label) for example in examples] == [("11", 1), ("12", 0), ("13", 0)]


def test_text_of_a_stay(tables: Tables) -> None:
    assert mortality(tables("mimic3"))["11"] == (
        "age 60s . female . micu . emergency admission . sepsis pneumonia telemetry . lactate very high . "
        "creatinine normal . mrn confused . no fever . daughter said worse since friday call . on pressors . bp 80/40"
    )


def test_shifted_birth_is_an_age_over_89(tables: Tables) -> None:
    assert mortality(tables("mimic3"))["13"].startswith("age over 89 . male")


def test_values_after_leaving_intensive_care_are_withheld(tables: Tables) -> None:
    text = mortality(tables("mimic3"))["17"]
    assert "creatinine normal" in text
    assert "lactate" not in text


def test_gzip_and_lower_case_names_read_the_same(tables: Tables) -> None:
    folder = tables("mimic3")
    plain = mortality(folder)
    for path in sorted(folder.glob("*.csv")):
        header, _, rest = path.read_text(encoding="utf-8").partition("\n")
        (folder / f"{path.name.lower()}.gz").write_bytes(gzip.compress(f"{header.lower()}\n{rest}".encode(), mtime=0))
        path.unlink()
    assert mortality(folder) == plain


def test_notes_may_be_absent(tables: Tables) -> None:
    folder = tables("mimic3")
    (folder / "NOTEEVENTS.csv").unlink()
    assert mortality(folder)["11"].endswith("creatinine normal")
