from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora.omop import Omop
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Event, Kind, Stay

Tables = Callable[[str], Path]
Rows = list[dict[str, str]]


@pytest.fixture
def folder(tables: Tables) -> Path:
    return tables("formats/ehr-same-patients/omop")


def change(path: Path, edit: Callable[[Rows], object], *, delimiter: str = ",", upper: bool = False) -> None:
    """Lets ``edit`` change the rows of a table, which may give some of them further columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    edit(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([name.upper() if upper else name for name in columns])
        writer.writerows([row.get(name, "") for name in columns] for row in rows)


def stays(folder: Path, *outcomes: str, drops: Drops | None = None) -> dict[str, Stay]:
    return {stay.stay: stay for stay in Omop().stays(folder, outcomes, drops)}


def events(folder: Path, stay: str, drops: Drops | None = None) -> list[Event]:
    chosen = [Chosen(each, 24.0) for each in stays(folder).values()]
    return Omop().events(folder, chosen, drops)[stay]


def measured(folder: Path, stay: str, name: str, drops: Drops | None = None) -> list[float | None]:
    return [event.value for event in events(folder, stay, drops) if event.code == name]


def test_a_day_without_time_is_not_midnight(folder: Path) -> None:
    change(folder / "measurement.csv", lambda rows: rows[3].update(measurement_datetime=""))
    drops = Drops()
    assert measured(folder, "30001", "creatinine", drops) == []
    assert drops.counts["measurement.csv", "MEASUREMENT_DATETIME has no time of day"] == 1
    change(folder / "measurement.csv", lambda rows: rows[3].update(measurement_datetime="2150-03-01"))
    assert measured(folder, "30001", "creatinine") == []


def test_a_visit_without_time_is_dropped(folder: Path) -> None:
    drops = Drops()
    change(folder / "visit_detail.csv", lambda rows: rows[0].update(visit_detail_end_datetime=""))
    assert "30001" not in stays(folder, drops=drops)
    assert drops.counts["visit_detail.csv", "VISIT_DETAIL_START or _END has no time of day"] == 1


def test_concept_0_is_known_by_its_source_value_or_counted(folder: Path) -> None:
    drops = Drops()
    assert measured(folder, "30001", "heart rate", drops) == [88.0, 110.0]
    assert not [reason for _, reason in drops.counts if "concept 0" in reason]
    change(folder / "measurement.csv", lambda rows: rows[1].update(measurement_source_value="HR"))
    assert measured(folder, "30001", "heart rate", drops) == [88.0]
    assert drops.counts["measurement.csv", "concept 0: not mapped, and the source value is no known code"] == 1


def test_a_local_concept_is_known_by_its_loinc_code(folder: Path) -> None:
    change(folder / "measurement.csv", lambda rows: rows[3].update(measurement_concept_id="2000000001"))
    change(folder / "measurement.csv", lambda rows: rows[3].update(measurement_source_value="KREA"))
    assert measured(folder, "30001", "creatinine") == []
    told = "concept_id,concept_name,vocabulary_id,concept_code\n2000000001,Creatinine,LOINC,2160-0\n"
    (folder / "CONCEPT.csv").write_text(told, encoding="utf-8")
    assert measured(folder, "30001", "creatinine") == [1.4]


@pytest.mark.parametrize(
    ("month", "day", "age"), [("", "", 67), ("3", "2", 66), ("3", "1", 67), ("2", "", 67), ("4", "", 66)]
)
def test_age_by_what_is_told_of_the_birth(folder: Path, month: str, day: str, age: int) -> None:
    change(folder / "person.csv", lambda rows: rows[0].update(month_of_birth=month, day_of_birth=day))
    assert stays(folder)["30001"].age == age


@pytest.mark.parametrize(("concept", "count", "said"), [("262", 5, True), ("9201", 5, False), ("9203", 4, False)])
def test_kinds_of_visits(folder: Path, concept: str, count: int, said: bool) -> None:
    """262 is emergency, then inpatient; 9203 an emergency visit alone, which is no hospital stay."""
    (folder / "visit_detail.csv").unlink()
    change(folder / "visit_occurrence.csv", lambda rows: rows[0].update(visit_concept_id=concept))
    found = stays(folder)
    assert len(found) == count
    assert any(event.text == "emergency admission" for stay in found.values() for event in stay.events) is said


def test_the_kind_of_admission_may_stand_in_words(folder: Path) -> None:
    change(folder / "visit_occurrence.csv", lambda rows: [row.update(visit_source_value="MRN 77") for row in rows])
    assert not any("admission" in event.text for event in stays(folder)["30001"].events)
    change(folder / "visit_occurrence.csv", lambda rows: rows[0].update(admitted_from_source_value="Urgent"))
    assert "urgent admission" in [event.text for event in stays(folder)["30001"].events]


def test_deaths_are_missing_dated_or_told_twice(folder: Path) -> None:
    again = {"person_id": "10002", "death_date": "2150-05-03"}
    change(folder / "death.csv", lambda rows: rows.insert(0, again))
    assert stays(folder)["30002"].outcome.death_hours == 37.5  # the row with a time counts
    change(folder / "death.csv", lambda rows: rows[1].update(death_datetime=""))
    outcome = stays(folder)["30002"].outcome
    assert (outcome.died, outcome.death_hours) == (True, 33.0)  # until the day begins
    (folder / "death.csv").unlink()
    outcome = stays(folder)["30002"].outcome
    assert (outcome.died, outcome.death_hours) == (True, None)  # discharged as expired


def test_midnight_is_a_filled_up_date(folder: Path) -> None:
    change(folder / "death.csv", lambda rows: rows[0].update(death_datetime="2150-05-03 00:00:00"))
    assert stays(folder)["30002"].outcome.death_hours == 33.0


def test_a_death_within_a_day_after_the_visit_counts(folder: Path) -> None:
    change(folder / "visit_occurrence.csv", lambda rows: rows[1].update(discharged_to_source_value=""))
    change(folder / "visit_occurrence.csv", lambda rows: rows[1].update(discharged_to_concept_id="0"))
    change(folder / "death.csv", lambda rows: rows[0].update(death_datetime="2150-05-03 20:00:00"))
    assert stays(folder)["30002"].outcome.died
    change(folder / "death.csv", lambda rows: rows[0].update(death_datetime="2150-05-05 20:00:00"))
    assert not stays(folder)["30002"].outcome.died


def test_units_by_concept_or_as_written(folder: Path) -> None:
    def micromoles(rows: Rows) -> None:
        rows[3].update(value_as_number="123.8", unit_concept_id="8749", unit_source_value="")
        rows[7].update(value_as_number="433.2", unit_concept_id="0", unit_source_value="µmol/L")

    change(folder / "measurement.csv", micromoles)
    assert measured(folder, "30001", "creatinine") == pytest.approx([1.4], abs=0.001)
    assert measured(folder, "30002", "creatinine") == pytest.approx([4.9], abs=0.001)


def test_a_number_may_stand_in_the_source_value_alone(folder: Path) -> None:
    change(folder / "measurement.csv", lambda rows: rows[3].update(value_as_number="", value_source_value="< 1.2"))
    (value,) = measured(folder, "30001", "creatinine")
    assert value is not None
    assert 1.19 < value < 1.2


@pytest.mark.parametrize("key", ["-6917529027641081856", "9223372036854775807", "a3f1c0-77"])
def test_identifiers_may_be_hashes(folder: Path, key: str) -> None:
    for name in ("person", "visit_occurrence", "visit_detail", "measurement", "death", "note"):

        def hashed(rows: Rows) -> None:
            for row in rows:
                row["person_id"] = row["person_id"].replace("10001", key)

        change(folder / f"{name}.csv", hashed)
    assert stays(folder)["30001"].patient == key
    assert measured(folder, "30001", "creatinine") == [1.4]


def test_notes_need_a_time_of_day(folder: Path) -> None:
    drops = Drops()
    assert not [event for event in events(folder, "30001", drops) if event.kind is Kind.NOTE]
    assert drops.counts["note.csv", "NOTE_DATETIME has no time of day"] == 2
    told = {"note_datetime": "2150-03-01 12:00:00", "note_title": "Nursing"}
    change(folder / "note.csv", lambda rows: rows[0].update(told))
    assert [event.code for event in events(folder, "30001") if event.kind is Kind.NOTE] == ["nursing"]


def test_names_in_capitals_and_tabs(folder: Path) -> None:
    wanted = stays(folder, "diagnosis codes", "readmission")
    for path in sorted(folder.glob("*.csv")):
        change(path, lambda rows: None, delimiter="\t", upper=True)
        path.rename(path.with_name(f"{path.stem.upper()}.tsv"))
    assert stays(folder, "diagnosis codes", "readmission") == wanted


def test_the_admission_diagnosis_is_no_code(folder: Path) -> None:
    def complaint(rows: Rows) -> None:
        rows.insert(0, {**rows[0], "condition_type_concept_id": "42894222", "condition_source_value": "PNEUMONIA"})

    change(folder / "condition_occurrence.csv", complaint)
    stay = stays(folder, "diagnosis codes")["30001"]
    assert stay.outcome.codes == ("J189",)
    assert [event.text for event in stay.events if event.kind is Kind.DIAGNOSIS] == ["PNEUMONIA"]


def test_columns_of_version_5_3(folder: Path) -> None:
    def older(rows: Rows) -> None:
        for row in rows:
            row["discharge_to_concept_id"] = row.pop("discharged_to_concept_id")
            row["discharge_to_source_value"] = row.pop("discharged_to_source_value")

    change(folder / "visit_occurrence.csv", older)
    (folder / "death.csv").unlink()
    assert stays(folder)["30002"].outcome.died


def test_a_visit_of_an_unknown_person_or_admission_is_counted(folder: Path) -> None:
    drops = Drops()
    change(folder / "person.csv", lambda rows: rows.pop(0))
    change(folder / "visit_detail.csv", lambda rows: rows[1].update(visit_occurrence_id="7"))
    assert sorted(stays(folder, drops=drops)) == ["30003", "30004"]
    assert drops.counts["visit_detail.csv", "person is not in PERSON"] == 1
    assert drops.counts["visit_detail.csv", "visit is not in VISIT_OCCURRENCE"] == 1


def test_visits_of_other_kinds_are_counted(folder: Path) -> None:
    """An export that writes its concepts otherwise lost every stay without a word."""
    change(folder / "visit_occurrence.csv", lambda rows: [row.update(visit_concept_id="0009201") for row in rows[:2]])
    change(folder / "visit_detail.csv", lambda rows: rows[2].update(visit_detail_concept_id="581477"))
    drops = Drops()
    stays(folder, drops=drops)
    assert drops.remarks["visit_occurrence.csv", "visits that are no stay in a hospital, by VISIT_CONCEPT_ID"] == 2
    assert drops.remarks["visit_detail.csv", "details that are no intensive care, by VISIT_DETAIL_CONCEPT_ID"] == 1


def test_deaths_of_nobody_and_without_a_day_are_counted(folder: Path) -> None:
    more = [{"person_id": "", "death_date": "2150-05-03"}, {"person_id": "10001", "death_date": ""}]
    change(folder / "death.csv", lambda rows: rows.extend(more))
    drops = Drops()
    stays(folder, drops=drops)
    assert drops.counts["death.csv", "PERSON_ID is empty"] == drops.counts["death.csv", "DEATH_DATE is empty"] == 1
