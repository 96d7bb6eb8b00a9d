from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.data import load_examples

pytestmark = pytest.mark.torch  # reading examples asks the tasks, which need it

Tables = Callable[[str], Path]


def test_one_example_per_patient_with_region(tables: Tables) -> None:
    examples = load_examples(tables("eicu"), format="eicu", task="mortality")
    assert [(example.patient_id, example.group, example.label) for example in examples] == [
        ("001-1", "midwest", 0),
        ("001-2", "unknown", 1),
        ("001-4", "midwest", 0),
    ]


def test_text_of_a_stay(tables: Tables) -> None:
    example = load_examples(tables("eicu"), format="eicu", task="mortality")[0]
    assert example.text == (
        "age 60s . female . micu . from emergency department . sepsis pulmonary . vasopressors . active treatment . "
        "cirrhosis . diabetes . intubated . intubated on arrival . ventilated . coma scale low . "
        "blood pressure extremely low . heart rate high . breathing very fast . temperature high . urine very low . "
        "creatinine high . urea normal . leukocytes very high . hematocrit normal . sodium low . glucose normal"
    )


def test_values_not_taken_and_long_remarks_are_left_out(tables: Tables) -> None:
    text = load_examples(tables("eicu"), format="eicu", task="mortality")[1].text
    assert "age over 89" in text
    assert "hypertension uncontrolled . " in text
    assert "coma scale" not in text
    assert "sodium" not in text


def test_treatment_after_prediction_time_is_withheld(tables: Tables) -> None:
    by_patient = {e.patient_id: e.text for e in load_examples(tables("eicu"), format="eicu", task="mortality")}
    assert "vasopressors" not in by_patient["001-2"]  # started at 25 hours
    assert "vasopressors" not in by_patient["001-4"]  # started after leaving the unit


def test_optional_tables_may_be_absent(tables: Tables) -> None:
    folder = tables("eicu")
    for name in ("apachepredvar", "infusiondrug", "treatment"):
        (folder / f"{name}.csv").unlink()
    text = load_examples(folder, format="eicu", task="mortality")[0].text
    assert "vasopressors" not in text
    assert "ventilated" in text


def test_outcome_columns_of_the_score_tables_change_nothing(
    tables: Tables, edit: Callable[[Path, str, str], None]
) -> None:
    folder = tables("eicu")
    before = load_examples(folder, format="eicu", task="mortality")
    edit(folder / "apachepredvar.csv", "2,1003,1,", "2,1003,0,")
    assert load_examples(folder, format="eicu", task="mortality") == before
