from __future__ import annotations

import pyarrow as pa
import pytest

from fedward.client.data.buckets import measurements
from fedward.client.data.drops import Drops
from fedward.client.data.measured_units import (
    LONGEST_SHOWN,
    MOST_SHOWN,
    in_own_units,
    known_unit,
    own_units,
    plain_unit,
)

CELLS = (
    *("10^9/L", "10*9/L", "10e9/L", "x10^9/L", "X 10^9 / l", "10⁹/L", "×10⁹/L", "109/L", "10**9/L", "10(9)/L", "1e9/L"),
    *("K/uL", "K/µL", "k/mcL", "10*3/uL", "10^3/uL", "x10E3/uL", "K/cumm", "10*3/mm3", "thou/uL", "Tsd/µl", "/nl"),
    *("1/nL", "G/l", "Gpt/L", "10*9/L{cells}", "10^3 cells/uL", "10^9·L⁻¹"),
)
SAME = [
    ("leukocytes", 8.0, 8.0, CELLS),
    ("platelets", 8000.0, 8.0, ("/uL", "cells/uL", "/mm3", "#/cu mm", "{cells}/uL", "10^6/L")),
    ("creatinine", 1.5, 1.5, ("mg/dL", "mg/dl", "MG/DL", " mg/dL ", "mg / dl", "(mg/dL)", "mg/100 mL", "mg.dL-1")),
    ("creatinine", 88.4, 1.0, ("umol/L", "µmol/l", "μmol/L", "UMOL/L", "micromol/L", "mcmol/L", "µmol·L⁻¹")),
    ("lactate", 2.0, 2.0, ("mmol/L", "mmol/l", "mmol/L ", "MMOL/L", "mEq/L", "meq/l", "millimole per liter")),
    ("hemoglobin", 100.0, 10.0, ("g/L", "G/L", "g/l ", "gm/L")),
    ("hemoglobin", 10.0, 10.0, ("g/dL", "gm/dl", "G/DL", "g%", "gram/deciliter")),
    ("heart rate", 80.0, 80.0, ("/min", "bpm", "BPM", "{beats}/min", "1/min", "beats per minute", "min-1", "次/分")),
    ("temperature", 38.0, 38.0, ("°C", "C", "Cel", "deg C", "℃", "ºC", "degrees Celsius", "?C")),
    ("temperature", 100.4, 38.0, ("°F", "[degF]", "F", "deg F", "℉", "?F", "Fahrenheit")),
    ("blood pressure", 70.0, 70.0, ("mmHg", "mm Hg", "mm[Hg]", "MMHG", "Torr")),
    ("blood pressure", 10.0, 75.0, ("kPa",)),
    ("hematocrit", 40.0, 40.0, ("%", "Vol.-%", "percent")),
    ("hematocrit", 0.4, 40.0, ("L/L", "1")),
    ("troponin", 0.5, 0.5, ("ng/mL", "ng/ml", "ug/L", "µg/L", "mcg/L")),
    ("troponin", 500.0, 0.5, ("ng/L", "pg/mL")),
    ("acidity", 7.4, 7.4, ("pH", "[pH]", "units", "1")),
]  # fmt: skip


def turned(name: str, value: float, unit: str | None, drops: Drops | None = None) -> float | None:
    names, values, units = pa.array([name]), pa.array([value]), pa.array([unit], pa.string())
    [found] = in_own_units(names, values, units, "t.csv", Drops() if drops is None else drops, [7]).to_pylist()
    return None if found is None else float(found)


@pytest.mark.parametrize(
    ("name", "value", "wanted", "unit"),
    [(name, value, wanted, unit) for name, value, wanted, units in SAME for unit in units],
)
def test_spellings_of_one_unit(name: str, value: float, wanted: float, unit: str) -> None:
    drops = Drops()
    assert turned(name, value, unit, drops) == pytest.approx(wanted, rel=0.001)
    assert not drops.counts
    assert bool(drops.remarks) == (value != wanted)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("creatinine", "g/dL"), ("lactate", "umol/L"), ("lactate", "kg"), ("sodium", "mg/dL"),
        ("platelets", "10^12/L"), ("leukocytes", "%"), ("temperature", "K"), ("heart rate", "Hz"), ("heart rate", "/h"),
        ("hemoglobin", "mg/dL"), ("blood pressure", "cmH2O"), ("glucose", "mmol/mol"), ("urea", "g/L"),
    ],
)  # fmt: skip
def test_a_value_in_an_unknown_unit_is_counted_by_its_spelling_and_never_used(name: str, unit: str) -> None:
    drops = Drops()
    assert turned(name, 5.0, unit, drops) is None
    assert drops.counts == {("t.csv", f"the unit of {name} is not known: {unit}"): 1}
    assert set(drops.first.values()) == {7}


@pytest.mark.parametrize("unit", [None, "", "  "])
def test_a_value_without_unit_is_in_the_expected_one(unit: str | None) -> None:
    assert turned("creatinine", 1.5, unit) == 1.5


def test_the_declared_unit_counts_where_a_row_tells_none() -> None:
    names, values, units = pa.array(["creatinine"] * 2), pa.array([88.4, 1.0]), pa.array([None, "mg/dL"])
    found = in_own_units(names, values, units, "t.csv", Drops(), declared={"creatinine": "umol/L"}).to_pylist()
    assert found == pytest.approx([1.0, 1.0], rel=0.001)


def test_several_units_in_one_batch() -> None:
    drops = Drops()
    names = pa.array(["creatinine", "creatinine", "glucose", None, "temperature", "creatinine"])
    values = pa.array([88.4, 1.0, 10.0, 7.0, 101.3, 2.0])
    units = pa.array(["umol/L", "mg/dL", "mmol/L", "mmol/L", "[degF]", "yard"])
    found = in_own_units(names, values, units, "t.csv", drops, range(2, 8)).to_pylist()
    assert found[:3] == pytest.approx([1.0, 1.0, 180.2], abs=0.001)
    assert found[4] == pytest.approx(38.5)
    assert found[5] is None
    assert drops.first == {("t.csv", "the unit of creatinine is not known: yard"): 7}


def test_a_report_shows_few_and_short_spellings() -> None:
    drops = Drops()
    turned("glucose", 5.0, "x" * (LONGEST_SHOWN + 1), drops)
    for number in range(2 * MOST_SHOWN):
        turned("lactate", 5.0, f"odd{number}", drops)
    assert drops.counts["t.csv", "the unit of glucose is not known"] == 1
    assert drops.counts["t.csv", "the unit of lactate is not known"] == MOST_SHOWN
    assert len(drops.counts) == MOST_SHOWN + 2


def test_a_column_of_something_else_is_counted_without_being_kept() -> None:
    drops, size = Drops(), 20_000
    names, values = pa.array(["lactate", "sodium"] * (size // 2)), pa.array([2.0] * size)
    units = pa.array([f"remark {number}" for number in range(size)])
    found = in_own_units(names, values, units, "t.csv", drops, range(2, size + 2))
    assert found.null_count == size == sum(drops.counts.values())
    assert len(drops.counts) == 2 * (MOST_SHOWN + 1)
    assert drops.first["t.csv", "the unit of sodium is not known: remark 1"] == 3


def test_every_unit_of_the_table_has_spellings_or_is_of_none() -> None:
    without = {name for name in measurements() if not own_units(name)}
    assert without == {"coma scale", "acidity"}


def test_of_two_spellings_the_known_one_counts() -> None:
    assert known_unit("creatinine", "local", "umol/L") == "umol/L"
    assert known_unit("creatinine", "", "yard") == "yard"
    assert known_unit("creatinine", "", "") == ""
    assert plain_unit("") == ""
