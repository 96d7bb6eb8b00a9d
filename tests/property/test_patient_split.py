"""The split by unit: disjoint, complete, and a function of the unit alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.client.data import Example, split_patients
from fedward.client.data.example import position

identifiers = st.sets(st.text(min_size=1, max_size=12), min_size=0, max_size=60)
fractions = st.floats(min_value=0.05, max_value=0.95)
salts = st.text(max_size=8)


def examples_of(patients: set[str]) -> list[Example]:
    return [Example(patient, "", "text", 0) for patient in sorted(patients)]


@given(identifiers, fractions, salts)
def test_sides_are_disjoint_and_complete(patients: set[str], fraction: float, salt: str) -> None:
    train, evaluation = split_patients(examples_of(patients), evaluation_fraction=fraction, salt=salt)
    left, right = {e.patient_id for e in train}, {e.patient_id for e in evaluation}
    assert not left & right
    assert left | right == patients
    assert len(train) + len(evaluation) == len(patients)


@given(identifiers, identifiers, fractions, salts)
def test_a_patient_never_changes_side_when_others_come_or_go(
    some: set[str], others: set[str], fraction: float, salt: str
) -> None:
    alone, _ = split_patients(examples_of(some), evaluation_fraction=fraction, salt=salt)
    together, _ = split_patients(examples_of(some | others), evaluation_fraction=fraction, salt=salt)
    assert {e.patient_id for e in alone} == {e.patient_id for e in together} & some


@given(st.text(min_size=1), salts, fractions, fractions)
def test_a_larger_evaluation_side_keeps_the_smaller_one(patient: str, salt: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert not position(patient, salt) < low or position(patient, salt) < high
    assert 0.0 <= position(patient, salt) < 1.0


@given(st.lists(st.tuples(st.text(min_size=1, max_size=2), st.booleans()), max_size=40), fractions, salts)
def test_all_records_of_a_unit_fall_on_one_side(records: list[tuple[str, bool]], fraction: float, salt: str) -> None:
    examples = [Example(unit, "", str(i), 0, held_out=held_out) for i, (unit, held_out) in enumerate(records)]
    train, evaluation = split_patients(examples, evaluation_fraction=fraction, salt=salt)
    assert not {e.unit for e in train} & {e.unit for e in evaluation}
    assert sorted(int(e.text) for e in (*train, *evaluation)) == list(range(len(records)))
    assert not any(e.unit in {unit for unit, held_out in records if held_out} for e in train)


def test_share_and_independence_of_salts() -> None:
    patients = examples_of({str(number) for number in range(20_000)})
    _, first = split_patients(patients, evaluation_fraction=0.4, salt="a")
    _, second = split_patients(patients, evaluation_fraction=0.4, salt="b")
    assert abs(len(first) / 20_000 - 0.4) < 0.02
    both = {e.patient_id for e in first} & {e.patient_id for e in second}
    assert abs(len(both) / 20_000 - 0.16) < 0.02


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_fraction_must_be_proper(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_patients([], evaluation_fraction=fraction, salt="a")
