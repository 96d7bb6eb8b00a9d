"""Tables of a synthetic hospital in every layout that hospitals export, with the same patients in each.

What a layout has no table for stands where its conversions of MIMIC put it: first-day notes of MIMIC-IV are radiology
reports, the admission diagnosis is a chief complaint at triage there and in OMOP, and Encounter.reasonCode in FHIR.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedward.client.data.buckets import Measurement, measurements
from fedward.simulations.synthetic.chart import (
    DISCHARGE_SUMMARY,
    Admitted,
    Note,
    Rows,
    admitted,
    time_text,
    write_mimic3,
    write_table,
    write_truth,
)
from fedward.simulations.synthetic.hospital import SyntheticHospital
from fedward.simulations.synthetic.own_tables import write_own_tables

_OLDEST_YEARS = 91  # written for every age over 89
_UNITS = {
    "MICU": "Medical Intensive Care Unit (MICU)",
    "SICU": "Surgical Intensive Care Unit (SICU)",
    "CCU": "Coronary Care Unit (CCU)",
    "CSRU": "Cardiac Surgery Recovery Unit (CSRU)",
    "TSICU": "Trauma SICU (TSICU)",
}
_ARRIVALS = {"EMERGENCY": "EW EMER."}  # MIMIC-III's word, and MIMIC-IV's
_PRIORITIES = {"EMERGENCY": "EM", "ELECTIVE": "EL", "URGENT": "UR"}  # HL7 v3 ActPriority
_ZONE = timezone(timedelta(hours=-5))
_LOINC = "http://loinc.org"
_NOTE_CODES = {"Nursing": "34746-8", "Physician": "11506-3", DISCHARGE_SUMMARY: "18842-5"}
_OMOP_CHIEF_COMPLAINT, _OMOP_EHR, _OMOP_INTENSIVE, _OMOP_INPATIENT = 42894222, 32817, 32037, 9201

_MIMIC4 = {
    "hosp/patients": "subject_id gender anchor_age anchor_year anchor_year_group dod",
    "hosp/admissions": "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id "
    "admission_location discharge_location insurance language marital_status race edregtime edouttime "
    "hospital_expire_flag",
    "hosp/diagnoses_icd": "subject_id hadm_id seq_num icd_code icd_version",
    "hosp/d_labitems": "itemid label fluid category",
    "hosp/labevents": "labevent_id subject_id hadm_id specimen_id itemid order_provider_id charttime storetime value "
    "valuenum valueuom ref_range_lower ref_range_upper flag priority comments",
    "icu/icustays": "subject_id hadm_id stay_id first_careunit last_careunit intime outtime los",
    "note/radiology": "note_id subject_id hadm_id note_type note_seq charttime storetime text",
    "note/discharge": "note_id subject_id hadm_id note_type note_seq charttime storetime text",
    "ed/edstays": "subject_id hadm_id stay_id intime outtime gender race arrival_transport disposition",
    "ed/triage": "subject_id stay_id temperature heartrate resprate o2sat sbp dbp pain acuity chiefcomplaint",
}
_OMOP = {
    "person": "person_id gender_concept_id year_of_birth month_of_birth day_of_birth race_concept_id "
    "ethnicity_concept_id gender_source_value",
    "visit_occurrence": "visit_occurrence_id person_id visit_concept_id visit_start_date visit_start_datetime "
    "visit_end_date visit_end_datetime visit_type_concept_id visit_source_value discharged_to_concept_id "
    "discharged_to_source_value",
    "visit_detail": "visit_detail_id person_id visit_detail_concept_id visit_detail_start_date "
    "visit_detail_start_datetime visit_detail_end_date visit_detail_end_datetime visit_detail_type_concept_id "
    "visit_detail_source_value visit_occurrence_id",
    "measurement": "measurement_id person_id measurement_concept_id measurement_date measurement_datetime "
    "measurement_type_concept_id operator_concept_id value_as_number unit_concept_id visit_occurrence_id "
    "measurement_source_value unit_source_value value_source_value",
    "condition_occurrence": "condition_occurrence_id person_id condition_concept_id condition_start_date "
    "condition_type_concept_id visit_occurrence_id condition_source_value",
    "death": "person_id death_date death_datetime death_type_concept_id",
    "note": "note_id person_id note_date note_datetime note_type_concept_id note_class_concept_id note_title "
    "note_text encoding_concept_id language_concept_id visit_occurrence_id",
}
_MEDS = pa.schema(
    [
        ("subject_id", pa.int64()), ("time", pa.timestamp("us")), ("code", pa.string()),
        ("numeric_value", pa.float32()), ("text_value", pa.large_string()), ("hadm_id", pa.int64()),
    ]
)  # fmt: skip


def write_mimic4(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes ten tables of MIMIC-IV in the folders of its download, and the truth."""
    rows: dict[str, Rows] = {name: [] for name in _MIMIC4}
    rows["hosp/d_labitems"] = [(item.mimic[0], item.name.capitalize(), "Blood", "Chemistry") for item in _laboratory()]
    for stay in admitted(hospital):
        _add_mimic4(rows, stay)
    for name, columns in _MIMIC4.items():
        write_table(folder / f"{name}.csv", columns, rows[name])
    write_truth(hospital, folder)


def _add_mimic4(rows: dict[str, Rows], stay: Admitted) -> None:
    patient, subject, hadm = stay.patient, stay.patient.patient_id, stay.admission
    start, end, left = (time_text(moment) for moment in (stay.start, stay.end, stay.left))
    day, death, place = (stay.left.date(), left, "DIED") if patient.died else ("", "", "HOME")
    arrival, unit, visit = _ARRIVALS.get(patient.admission, patient.admission), _UNITS[patient.unit], f"3{subject}"
    age = patient.age if patient.age < _OLDEST_YEARS - 1 else _OLDEST_YEARS
    rows["hosp/patients"].append((subject, patient.sex, age, stay.start.year, "2014 - 2016", day))
    rows["hosp/admissions"].append(
        (subject, hadm, start, left, death, arrival, "", "EMERGENCY ROOM", place, "Medicare", "English", "", "", start,
         start, int(patient.died))
    )  # fmt: skip
    rows["hosp/diagnoses_icd"].append((subject, hadm, 1, f"{stay.code:<7}", 9))
    days = round(patient.unit_hours / 24.0, 4)
    rows["icu/icustays"].append((subject, hadm, stay.stay, unit, unit, start, end, days))
    rows["ed/edstays"].append((subject, hadm, visit, start, start, patient.sex, "", "AMBULANCE", "ADMITTED"))
    rows["ed/triage"].append((subject, visit, *[""] * 8, patient.diagnosis))
    for item, at, value in _values(stay):
        table = rows["hosp/labevents"]
        table.append(
            (len(table) + 1, subject, hadm, "", item.mimic[0], "", time_text(at), time_text(at), value, value,
             item.unit, "", "", "", "ROUTINE", "")
        )  # fmt: skip
    for note in stay.chart.notes:
        kind, name = ("DS", "note/discharge") if note.category == DISCHARGE_SUMMARY else ("RR", "note/radiology")
        at = stay.at(note.hours)
        moment = time_text(at) if kind == "RR" else f"{at.date()} 00:00:00"
        number = len(rows[name]) + 1
        rows[name].append((f"{subject}-{kind}-{number}", subject, hadm, kind, number, moment, moment, note.text))


def write_omop(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes seven tables of OMOP CDM 5.4, and the truth."""
    rows: dict[str, Rows] = {name: [] for name in _OMOP}
    for stay in admitted(hospital):
        _add_omop(rows, stay)
    for name, columns in _OMOP.items():
        write_table(folder / f"{name}.csv", columns, rows[name])
    write_truth(hospital, folder)


def _add_omop(rows: dict[str, Rows], stay: Admitted) -> None:
    patient, person, visit, birth = stay.patient, stay.patient.patient_id, stay.admission, stay.birth(_OLDEST_YEARS)

    def add(table: str, *values: object) -> None:
        rows[table].append((len(rows[table]) + 1, person, *values))

    sex = {"M": 8507, "F": 8532}[patient.sex]
    rows["person"].append((person, sex, birth.year, birth.month, birth.day, 0, 0, patient.sex))
    to = (4216643, "expired") if patient.died else (0, "home")
    rows["visit_occurrence"].append(
        (visit, person, _OMOP_INPATIENT, *_twice(stay.start), *_twice(stay.left), _OMOP_EHR, patient.admission, *to)
    )
    rows["visit_detail"].append(
        (stay.stay, person, _OMOP_INTENSIVE, *_twice(stay.start), *_twice(stay.end), _OMOP_EHR, patient.unit, visit)
    )
    for item, at, value in _values(stay):
        add(
            "measurement", item.codes["omop"][0], *_twice(at), _OMOP_EHR, "", value, 0, visit, item.codes["loinc"][0],
            item.unit, value,
        )  # fmt: skip
    add("condition_occurrence", 0, stay.start.date(), _OMOP_CHIEF_COMPLAINT, visit, patient.diagnosis)
    add("condition_occurrence", 0, stay.left.date(), _OMOP_EHR, visit, stay.code)
    if patient.died:
        rows["death"].append((person, *_twice(stay.left), _OMOP_EHR))
    for note in stay.chart.notes:
        day, moment = _twice(stay.at(note.hours))
        moment = "" if note.category == DISCHARGE_SUMMARY else moment
        add("note", day, moment, _OMOP_EHR, 0, note.category, note.text, 32678, 4180186, visit)


def _twice(moment: datetime) -> tuple[str, str]:
    """A day, and the time in it, as OMOP wants both."""
    return str(moment.date()), time_text(moment)


def write_meds(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes a MEDS 0.4 data set with one shard, and the truth."""
    rows = [row for stay in sorted(admitted(hospital), key=_subject) for row in _meds(stay)]
    columns = {name: [row.get(name) for row in rows] for name in _MEDS.names}
    _write_parquet(folder / "data" / "train" / "0.parquet", pa.table(columns, schema=_MEDS))
    codes = [(_meds_code(item), item.name, [f"LOINC/{code}" for code in item.codes["loinc"]]) for item in _laboratory()]
    names = ("code", "description", "parent_codes")
    described = pa.table({name: list(column) for name, column in zip(names, zip(*codes, strict=True), strict=True)})
    _write_parquet(folder / "metadata" / "codes.parquet", described)
    subjects = sorted({int(patient.patient_id) for patient in hospital.patients})
    splits = pa.table({"subject_id": subjects, "split": ["train"] * len(subjects)})
    _write_parquet(folder / "metadata" / "subject_splits.parquet", splits)
    told = {"dataset_name": "synthetic", "dataset_version": "1", "meds_version": "0.4.0"}
    (folder / "metadata" / "dataset.json").write_text(json.dumps(told), encoding="utf-8")
    write_truth(hospital, folder)


def _subject(stay: Admitted) -> int:
    return int(stay.patient.patient_id)


def _meds(stay: Admitted) -> list[dict[str, Any]]:
    """Events of a subject in order of time, those without time first."""
    patient, hadm = stay.patient, int(stay.admission)
    arrival, place = _ARRIVALS.get(patient.admission, patient.admission), "DIED" if patient.died else "HOME"

    def event(time: datetime | None, code: str, text: str | None = None, number: float | None = None) -> dict[str, Any]:
        return {
            "subject_id": _subject(stay), "time": time, "code": code, "numeric_value": number, "text_value": text,
            "hadm_id": hadm,
        }  # fmt: skip

    day = datetime.combine(stay.birth(_OLDEST_YEARS).date(), datetime.min.time())
    events = [
        event(None, f"GENDER//{patient.sex}"), event(day, "MEDS_BIRTH"),
        event(stay.start, f"HOSPITAL_ADMISSION//{arrival}//EMERGENCY ROOM"),
        event(stay.start, "ADMISSION_DIAGNOSIS", patient.diagnosis),
        event(stay.start, f"ICU_ADMISSION//{_UNITS[patient.unit]}"),
        event(stay.end, f"ICU_DISCHARGE//{_UNITS[patient.unit]}"), event(stay.left, f"HOSPITAL_DISCHARGE//{place}"),
        event(stay.left, f"DIAGNOSIS//ICD//9//{stay.code}"),
        *(event(at, _meds_code(item), None, value) for item, at, value in _values(stay)),
        *(event(at, f"NOTE//{note.category}", note.text) for at, note in _notes(stay)),
    ]  # fmt: skip
    if patient.died:
        events.append(event(stay.left, "MEDS_DEATH"))
    return sorted(events, key=lambda each: each["time"] or datetime.min)


def _meds_code(item: Measurement) -> str:
    return f"LAB//{item.mimic[0]}//{item.unit}"


def _notes(stay: Admitted) -> Iterator[tuple[datetime, Note]]:
    """Notes with their times; a discharge summary has a day only, which MEDS writes as midnight."""
    for note in stay.chart.notes:
        at = stay.at(note.hours)
        midnight = datetime.combine(at.date(), datetime.min.time())
        yield midnight if note.category == DISCHARGE_SUMMARY else at, note


def _write_parquet(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_fhir(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes a FHIR R4 bulk export, one file a type, and the truth; encounters and observations in different zones."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for stay in admitted(hospital):
        for resource in (*_person(stay), *_encounters(stay), *_observations(stay), *_documents(stay)):
            found.setdefault(resource["resourceType"], []).append(resource)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, resources in found.items():
        lines = (json.dumps(resource) + "\n" for resource in resources)
        (folder / f"{kind}.000.ndjson").write_text("".join(lines), encoding="utf-8")
    write_truth(hospital, folder)


def _person(stay: Admitted) -> Iterator[Mapping[str, Any]]:
    patient = stay.patient
    death = {"deceasedDateTime": _instant(stay.left)} if patient.died else {"deceasedBoolean": False}
    gender = {"M": "male", "F": "female"}[patient.sex]
    birth = str(stay.birth(_OLDEST_YEARS).date())
    yield {"resourceType": "Patient", "id": patient.patient_id, "gender": gender, "birthDate": birth, **death}
    yield {
        "resourceType": "Condition", "id": f"c{patient.patient_id}", "subject": _patient(stay),
        "encounter": {"reference": f"Encounter/{stay.admission}"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-9-cm", "code": stay.code}]},
    }  # fmt: skip


def _patient(stay: Admitted) -> dict[str, str]:
    return {"reference": f"Patient/{stay.patient.patient_id}"}


def _encounters(stay: Admitted) -> Iterator[Mapping[str, Any]]:
    place = "exp" if stay.patient.died else "home"
    shared = {"resourceType": "Encounter", "status": "finished", "subject": _patient(stay)}
    yield {
        **shared, "id": stay.admission, "class": {"code": "IMP"},
        "priority": {"coding": [{"code": _PRIORITIES[stay.patient.admission]}]},
        "reasonCode": [{"text": stay.patient.diagnosis}],
        "period": {"start": _instant(stay.start), "end": _instant(stay.left)},
        "hospitalization": {"dischargeDisposition": {"coding": [{"code": place}]}},
    }  # fmt: skip
    yield {
        **shared, "id": stay.stay, "class": {"code": "ACUTE"}, "partOf": {"reference": f"Encounter/{stay.admission}"},
        "period": {"start": _instant(stay.start), "end": _instant(stay.end)},
        "location": [{"location": {"display": _UNITS[stay.patient.unit]}}],
    }  # fmt: skip


def _observations(stay: Admitted) -> Iterator[Mapping[str, Any]]:
    for number, (item, at, value) in enumerate(_values(stay)):
        yield {
            "resourceType": "Observation", "id": f"o{stay.patient.patient_id}-{number}", "status": "final",
            "code": {"coding": [{"system": _LOINC, "code": item.codes["loinc"][0]}]}, "subject": _patient(stay),
            "effectiveDateTime": _instant(at, UTC), "valueQuantity": {"value": value, "unit": item.unit},
        }  # fmt: skip


def _documents(stay: Admitted) -> Iterator[Mapping[str, Any]]:
    for number, (at, note) in enumerate(_notes(stay)):
        data = base64.b64encode(note.text.encode()).decode()
        yield {
            "resourceType": "DocumentReference", "id": f"d{stay.patient.patient_id}-{number}", "status": "current",
            "type": {"coding": [{"system": _LOINC, "code": _NOTE_CODES[note.category]}]}, "subject": _patient(stay),
            "date": _instant(at), "content": [{"attachment": {"contentType": "text/plain", "data": data}}],
        }  # fmt: skip


def _instant(moment: datetime, zone: timezone = _ZONE) -> str:
    return moment.replace(tzinfo=_ZONE).astimezone(zone).isoformat()


def _laboratory() -> Iterable[Measurement]:
    return (item for item in measurements().values() if item.mimic)


def _values(stay: Admitted) -> Iterator[tuple[Measurement, datetime, float]]:
    """Laboratory values with their times."""
    table = measurements()
    for name, hours, value in stay.chart.labs:
        yield table[name], stay.at(hours), value


LAYOUTS: dict[str, Callable[[SyntheticHospital, Path], None]] = {
    "mimic-iii": write_mimic3,
    "mimic-iv": write_mimic4,
    "meds": write_meds,
    "omop": write_omop,
    "fhir": write_fhir,
    "mapped": write_own_tables,
}
"""Writers by the name of the corpus that reads what they write."""
