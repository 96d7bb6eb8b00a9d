from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from fedward.client.corpora import detect
from fedward.client.corpora.mimic_iv import MimicIV
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Event, Kind, Stay, known_at_prediction
from tests.codes import raises

Tables = Callable[[str], Path]
Rows = list[dict[str, str]]


@pytest.fixture
def folder(tables: Tables) -> Path:
    return tables("formats/ehr-same-patients/mimic-iv")


def change(path: Path, edit: Callable[[Rows], object]) -> None:
    """Reads a packed table, lets ``edit`` change its rows, and writes it again."""
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    columns = list(rows[0])
    edit(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def stays(folder: Path, *outcomes: str) -> dict[str, Stay]:
    return {stay.stay: stay for stay in MimicIV().stays(folder, outcomes)}


def events(folder: Path, stay: str, hours: float = 24.0, drops: Drops | None = None) -> list[Event]:
    every = stays(folder)
    chosen = [Chosen(each, hours if key == stay else 24.0) for key, each in every.items()]
    return MimicIV().events(folder, chosen, drops)[stay]


def measured(folder: Path, stay: str, name: str, hours: float = 24.0) -> list[tuple[float, float | None]]:
    return [(event.time, event.value) for event in events(folder, stay, hours) if event.code == name]


def test_age_grows_from_the_anchor(folder: Path) -> None:
    change(folder / "hosp/patients.csv.gz", lambda rows: rows[0].update(anchor_year="2147"))
    assert stays(folder)["30001"].age == 70


def test_a_death_after_discharge_is_no_death_in_hospital(folder: Path) -> None:
    change(folder / "hosp/patients.csv.gz", lambda rows: rows[0].update(dod="2150-03-20"))
    assert not stays(folder)["30001"].outcome.died


def test_a_death_written_after_discharge_ends_the_stay(folder: Path) -> None:
    change(folder / "hosp/admissions.csv.gz", lambda rows: rows[1].update(deathtime="2150-05-03 06:00:00"))
    outcome = stays(folder)["30002"].outcome
    assert outcome.died
    assert outcome.death_hours == outcome.unit_hours


def test_folders_of_version_1_and_tables_side_by_side(folder: Path) -> None:
    wanted = stays(folder, "diagnosis codes", "readmission")
    (folder / "core").mkdir()
    for name in ("patients.csv.gz", "admissions.csv.gz"):
        (folder / "hosp" / name).rename(folder / "core" / name)
    change(folder / "core/admissions.csv.gz", lambda rows: [row.pop("race") for row in rows])
    for path in (folder / "core/patients.csv.gz", folder / "icu/icustays.csv.gz"):
        path.with_name(path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert stays(folder, "diagnosis codes", "readmission") == wanted
    for path in sorted(folder.rglob("*.csv*")):
        path.rename(folder / path.name)
    assert detect(folder)[0].name == "mimic-iv"
    assert stays(folder, "diagnosis codes", "readmission") == wanted


def test_a_version_folder_of_parquet_is_found_below(folder: Path, tmp_path: Path) -> None:
    version = tmp_path / "physionet.org/files/mimiciv/3.1"
    for path in sorted(folder.rglob("*.csv.gz")):
        target = version / path.relative_to(folder).with_name(path.name.replace(".csv.gz", ".parquet"))
        target.parent.mkdir(parents=True, exist_ok=True)
        options = arrow_csv.ParseOptions(newlines_in_values=True)
        pq.write_table(arrow_csv.read_csv(path, parse_options=options), target)
    assert detect(tmp_path / "physionet.org")[1] == version
    assert stays(version, "diagnosis codes") == stays(folder, "diagnosis codes")
    assert events(version, "30001") == events(folder, "30001")


def test_a_result_without_admission_is_matched_by_time(folder: Path) -> None:
    change(folder / "hosp/labevents.csv.gz", lambda rows: rows[0].update(hadm_id=""))
    assert measured(folder, "30001", "creatinine") == [(3.0, 1.4)]  # drawn at 2 hours, known at 3


def test_a_result_is_known_when_it_was_stored(folder: Path) -> None:
    change(folder / "hosp/labevents.csv.gz", lambda rows: rows[0].update(storetime="2150-03-02 10:30:00"))
    assert measured(folder, "30001", "creatinine") == []
    change(folder / "hosp/labevents.csv.gz", lambda rows: rows[0].update(storetime=""))
    assert measured(folder, "30001", "creatinine") == [(2.0, 1.4)]


def test_the_number_may_stand_in_the_comment_alone(folder: Path) -> None:
    told = {"value": "___", "valuenum": "", "comments": "<0.6"}
    change(folder / "hosp/labevents.csv.gz", lambda rows: rows[0].update(told))
    ((_, value),) = measured(folder, "30001", "creatinine")
    assert value is not None
    assert 0.599 < value < 0.6
    change(folder / "hosp/labevents.csv.gz", lambda rows: rows[0].update(comments="HEMOLYZED, 3 TIMES"))
    assert measured(folder, "30001", "creatinine") == []


def test_codes_are_trimmed_and_of_both_versions(folder: Path) -> None:
    change(folder / "hosp/diagnoses_icd.csv.gz", lambda rows: rows.append({**rows[0], "icd_code": "486  "}))
    assert stays(folder, "diagnosis codes")["30001"].outcome.codes == ("J189", "486")


def test_celsius_and_fahrenheit_have_items_of_their_own(folder: Path) -> None:
    def second(rows: Rows) -> None:
        rows.append({**rows[3], "itemid": "223762", "valuenum": "38.5", "valueuom": "°C"})

    change(folder / "icu/chartevents.csv.gz", second)
    assert [value for _, value in measured(folder, "30002", "temperature")] == pytest.approx([38.5, 38.5])


def test_triage_is_taken_on_arrival_and_has_stays_of_its_own(folder: Path) -> None:
    temperatures = measured(folder, "30001", "temperature")
    assert [time for time, _ in temperatures] == [-4.0]
    assert temperatures[0][1] == pytest.approx(37.89, abs=0.01)
    assert (-4.0, 104.0) in measured(folder, "30001", "heart rate")
    change(folder / "ed/edstays.csv.gz", lambda rows: rows[0].update(stay_id="30002"))  # as one in intensive care
    change(folder / "ed/triage.csv.gz", lambda rows: rows[0].update(stay_id="30002"))
    assert (-4.0, 104.0) in measured(folder, "30001", "heart rate")
    assert (-4.0, 104.0) not in measured(folder, "30002", "heart rate")


def test_a_visit_that_was_sent_home_is_no_admission_diagnosis(folder: Path) -> None:
    def diagnosis() -> list[str]:
        return [event.text for event in stays(folder)["30001"].events if event.kind is Kind.DIAGNOSIS]

    assert diagnosis() == ["Dyspnea, cough"]
    change(folder / "ed/edstays.csv.gz", lambda rows: rows[0].update(hadm_id="", disposition="HOME"))
    assert diagnosis() == [""]


def test_discharge_notes_are_withheld(folder: Path) -> None:
    drops = Drops()
    found = events(folder, "30001", 300.0, drops)
    assert [event.code for event in found if event.kind is Kind.NOTE] == ["discharge summary"]
    assert not [event for event in known_at_prediction(found, 300.0) if event.kind is Kind.NOTE]


def test_keys_are_of_one_row_and_of_a_patient(folder: Path) -> None:
    change(folder / "icu/icustays.csv.gz", lambda rows: rows[1].update(hadm_id="20003"))
    with raises("FW-DATA-012", match="HADM_ID"):
        stays(folder)
    change(folder / "icu/icustays.csv.gz", lambda rows: rows[1].update(subject_id="7"))
    with raises("FW-DATA-012", match="SUBJECT_ID"):
        stays(folder)
    change(folder / "hosp/admissions.csv.gz", lambda rows: rows[1].update(hadm_id="20001"))
    with raises("FW-DATA-008", match="HADM_ID"):
        stays(folder)


VITAL_SIGNS = """subject_id,stay_id,charttime,temperature,heartrate,resprate,o2sat,sbp,dbp,rhythm,pain
10001,40001,2150-03-01 07:30:00,101.3,125,40,90,110,60,,7
10001,40001,2150-03-01 07:45:00,36.5,,,,,,,unable
10001,40001,,98.0,80,16,,,,,
10001,40001,2150-03-01 07:50:00,98.0,fast,16,,,,,
99999,40009,2150-03-01 07:30:00,98.0,80,16,,,,,
"""


def test_vital_signs_of_the_emergency_department(folder: Path) -> None:
    (folder / "ed" / "vitalsign.csv.gz").write_bytes(gzip.compress(VITAL_SIGNS.encode(), mtime=0))
    drops = Drops()
    found = {(event.time, event.code): event.value for event in events(folder, "30001", drops=drops)}
    assert found[-2.5, "heart rate"] == 125.0 and found[-2.5, "breathing"] == 40.0
    assert found[-2.5, "temperature"] == pytest.approx(38.5)
    assert (-2.25, "temperature") not in found  # Celsius in a column of Fahrenheit
    assert {key: row for key, row in drops.first.items() if key[0] == "vitalsign.csv.gz"} == {
        ("vitalsign.csv.gz", "temperature is outside the plausible range in degrees Celsius"): 3,
        ("vitalsign.csv.gz", "CHARTTIME has no time of day"): 4,
        ("vitalsign.csv.gz", "HEARTRATE is not a number"): 5,
    }
    assert MimicIV().sizes(folder)["VITALSIGN"] == 5
    (folder / "ed" / "edstays.csv.gz").unlink()  # vital signs name their patient themselves
    assert (-2.5, 125.0) in measured(folder, "30001", "heart rate")


def test_triage_of_a_visit_that_is_not_listed_is_counted_by_row(folder: Path) -> None:
    change(folder / "ed/triage.csv.gz", lambda rows: rows[0].update(stay_id="1"))
    drops = Drops()
    events(folder, "30001", drops=drops)
    assert drops.first["triage.csv.gz", "STAY_ID is not in EDSTAYS, or has no INTIME there"] == 2


def test_the_folder_without_the_emergency_department_is_whole(folder: Path) -> None:
    for path in (folder / "ed").iterdir():
        path.unlink()
    (folder / "ed").rmdir()
    assert detect(folder)[0].name == "mimic-iv"
    assert (-4.0, 104.0) not in measured(folder, "30001", "heart rate")
