"""Which stays each task takes, when it predicts them, and with which label; the patients are those of the fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import corpus_named
from fedward.client.data import Example, load_examples, split_patients
from fedward.client.data.drops import Drops
from fedward.client.data.events import Outcome
from fedward.client.tasks import local_task
from fedward.client.tasks import phenotypes as phenotypes_task
from fedward.tasks import TASKS
from tests.codes import raises

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


SEVERAL = Path(__file__).parents[3] / "fixtures" / "mimic3-several"


def several(task: str) -> list[Example]:
    return load_examples(SEVERAL, format="mimic-iii", task=task)


def pairs(examples: list[Example]) -> list[tuple[str, object]]:
    return [(example.unit, example.label) for example in examples]


def test_tasks_of_a_patient_have_one_record_each() -> None:
    for task in ("mortality", "los3"):
        units = [example.unit for example in several(task)]
        assert units == ["21", "22", "23", "24"]


def test_a_patient_has_one_record_of_each_hospital_stay() -> None:
    # 21 came back after 14 days, and again 31 days after that; 23 came back for a planned operation.
    assert pairs(several("readmission")) == [("21", 1), ("21", 0), ("23", 1), ("24", 0)]


def test_who_died_in_hospital_cannot_come_back() -> None:
    assert "22" not in {example.unit for example in several("readmission")}


def test_what_is_known_at_discharge_may_be_read_and_nothing_later() -> None:
    first, second = (example.text for example in several("readmission") if example.unit == "21")
    assert "creatinine extreme" in first  # the fifth day, after intensive care
    assert "walks with help" in first
    assert "back soon" not in first  # discharge summary
    assert "potassium" not in first  # the day after discharge
    assert "creatinine extreme" in second  # during the second stay in intensive care
    on_the_first_day = several("los-days")
    assert not any("walks" in example.text for example in on_the_first_day)


def test_days_are_of_every_stay_scaled_and_capped() -> None:
    assert pairs(several("los-days")) == [
        ("21", 0.5),
        ("21", 0.875),
        ("21", 1.0),
        ("22", pytest.approx(196 / 24 / 4)),
        ("23", 3.5),
        ("24", 0.375),
    ]


def test_destinations_that_contradict_survival_are_left_out() -> None:
    assert pairs(several("discharge")) == [
        ("21", "home"),
        ("21", "facility"),
        ("22", "died"),
        ("23", "other"),
    ]  # 24 went to "DEAD/EXPIRED" alive


def test_phenotypes_are_of_every_coded_stay() -> None:
    heart = ("heart-failure", "kidney-failure")
    assert pairs(several("phenotypes")) == [
        ("21", ("sepsis", "pneumonia", "diabetes")),
        ("21", heart),
        ("21", heart),  # the second stay in intensive care of the same admission
        ("22", ("stroke",)),
        ("24", ()),  # coded, with asthma
    ]  # nobody coded 23


def test_codes_are_not_in_any_text() -> None:
    for task in ("phenotypes", "readmission", "discharge"):
        assert not any(code in example.text for example in several(task) for code in ("99591", "4280", "sepsis", "snf"))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_all_records_of_a_patient_fall_on_one_side(fraction: float) -> None:
    for task in ("readmission", "los-days", "phenotypes", "discharge"):
        examples = several(task)
        for salt in map(str, range(20)):
            train, evaluation = split_patients(examples, evaluation_fraction=fraction, salt=salt)
            assert not {e.unit for e in train} & {e.unit for e in evaluation}
            assert len(train) + len(evaluation) == len(examples)


def test_eicu_serves_phenotypes_and_destinations(tables: Tables, edit: Edit) -> None:
    folder = tables("eicu")
    with raises("FW-DATA-002", match="DIAGNOSIS"):
        load_examples(folder, format="eicu", task="phenotypes")
    (folder / "diagnosis.csv").write_text(
        "diagnosisid,patientunitstayid,diagnosisoffset,icd9code\n"
        '1,1001,10,"995.91, A41.9"\n2,1001,2000,"584.9, N17.9"\n3,1002,10,\n4,1003,10,"I63.9"\n5,1007,10,486\n'
    )
    edit(folder / "patient.csv", "9000,Home,Alive,MICU,Floor", "9000,Rehabilitation,Alive,MICU,Floor")
    examples = load_examples(folder, format="eicu", task="phenotypes")
    assert pairs(examples) == [("001-1", ("sepsis", "kidney-failure")), ("001-2", ("stroke",))]
    found = load_examples(folder, format="eicu", task="discharge")
    assert pairs(found) == [("001-1", "home"), ("001-2", "died"), ("001-4", "home")]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("99592", "sepsis"), ("A419", "sepsis"), ("R6521", "sepsis"), ("4829", "pneumonia"), ("J189", "pneumonia"),
        ("51881", "respiratory-failure"), ("J9601", "respiratory-failure"), ("49121", "copd"), ("J449", "copd"),
        ("42831", "heart-failure"), ("I5023", "heart-failure"), ("41071", "myocardial-infarction"),
        ("I214", "myocardial-infarction"), ("42731", "arrhythmia"), ("I4891", "arrhythmia"), ("43491", "stroke"),
        ("I639", "stroke"), ("5849", "kidney-failure"), ("N179", "kidney-failure"), ("25000", "diabetes"),
        ("E1165", "diabetes"),
    ],
)  # fmt: skip
def test_groups_of_codes(code: str, name: str) -> None:
    assert phenotypes_task.label(Outcome(False, 30.0, codes=(code,))) == (name,)


@pytest.mark.parametrize("code", ["4275", "4274", "433", "E8809", "E0100", "V4581", "5856", "I10", "799"])
def test_codes_of_no_group(code: str) -> None:
    assert phenotypes_task.label(Outcome(False, 30.0, codes=(code,))) == ()


def test_groups_are_the_declared_classes() -> None:
    assert tuple(phenotypes_task.PREFIXES) == TASKS["phenotypes"].classes


@pytest.mark.parametrize("task", ["readmission", "los-days", "phenotypes", "discharge"])
def test_targets_have_the_form_of_the_head(task: str) -> None:
    examples, local = several(task), local_task(task)
    targets = local.targets(examples)
    assert len(targets) == len(examples)
    if task == "phenotypes":
        assert targets.shape == (len(examples), local.declaration.head.outputs)
    if task == "discharge":
        assert targets.max() < local.declaration.head.outputs


def test_columns_of_other_tasks_are_not_needed(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3-several")
    edit(folder / "ADMISSIONS.csv", "DISCHTIME", "LEFT")
    edit(folder / "ADMISSIONS.csv", "DISCHARGE_LOCATION", "TO")
    assert len(load_examples(folder, format="mimic-iii", task="mortality")) == 4
    for task, column in (("readmission", "DISCHTIME"), ("discharge", "DISCHARGE_LOCATION")):
        with raises("FW-DATA-003", match=column):
            load_examples(folder, format="mimic-iii", task=task)


def test_events_of_chosen_stays_only() -> None:
    corpus, folder = corpus_named("mimic-iii"), SEVERAL
    source = local_task("readmission").source
    chosen = [each.item for each in source.labelled(corpus, folder, Drops())][:1]
    (known,) = source.known(corpus, folder, chosen, Drops())
    assert {event.stay for event in known} == {"301"}
