"""Reader of the MIMIC-III layout (Johnson et al., Sci Data 2016): tables as published on PhysioNet."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fedward.client.corpora import tables
from fedward.client.corpora.tables import Row, TableCorpus, at_admission, find_table, read_rows
from fedward.client.data.buckets import measurements
from fedward.client.data.events import OLDEST, Chosen, Event, Kind, Outcome, Stay
from fedward.errors import DataError

_LOOK_BACK_HOURS = 24.0  # results up to a day before intensive care still describe the patient at admission
_CLOSING_HOURS = 6.0  # clerks close a stay some hours before or after a death in it; a death this near counts as in it
READMISSION_DAYS = 30.0
_EPOCH = datetime(1970, 1, 1)
_SEXES = {"M": "male", "F": "female"}

_DESTINATIONS = {
    "DEAD/EXPIRED": "died",
    **dict.fromkeys(("HOME", "HOME HEALTH CARE", "HOME WITH HOME IV PROVIDR", "HOSPICE-HOME"), "home"),
    **dict.fromkeys(
        (
            "SNF", "SNF-MEDICAID ONLY CERTIF", "REHAB/DISTINCT PART HOSP", "LONG TERM CARE HOSPITAL", "ICF",
            "OTHER FACILITY", "SHORT TERM HOSPITAL", "DISCH-TRAN TO PSYCH HOSP", "DISC-TRAN CANCER/CHLDRN H",
            "DISC-TRAN TO FEDERAL HC", "HOSPICE-MEDICAL FACILITY",
        ),
        "facility",
    ),
}  # fmt: skip


_Patient = tuple[str, datetime]  # sex and birth
_Codes = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Admission:
    patient: str
    kind: str
    diagnosis: str
    died: bool
    death: datetime | None
    begin: datetime | None
    end: datetime | None
    destination: str | None


class MimicIII(TableCorpus):
    """Stays in intensive care; the notes are free text."""

    name = "mimic-iii"
    title = "MIMIC-III (Johnson et al. 2016)"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    free_text_of_persons = True
    gives = frozenset({"stay", "diagnosis codes", "destination", "readmission"})
    required = ("PATIENTS", "ADMISSIONS", "ICUSTAYS", "LABEVENTS")
    optional = ("NOTEEVENTS", "DIAGNOSES_ICD")

    def stays(self, folder: Path, outcomes: Collection[str] = ()) -> list[Stay]:
        """See :meth:`StayCorpus.stays`; from PATIENTS, ADMISSIONS, ICUSTAYS and, where asked for, DIAGNOSES_ICD."""
        patients, admissions = _patients(folder), _admissions(folder, outcomes)
        codes = _codes(folder) if "diagnosis codes" in outcomes else None
        begins: dict[str, list[datetime]] = {}
        for each in admissions.values():
            begins.setdefault(each.patient, []).extend([each.begin] if each.begin else [])
        columns = ("subject_id", "hadm_id", "icustay_id", "first_careunit", "intime", "outtime")
        stays: dict[str, Stay] = {}
        for row in read_rows(folder, "icustays", columns):
            subject, hadm, key = row[:3]
            if key in stays:
                raise DataError("The table ICUSTAYS lists an ICUSTAY_ID twice.", code="FW-DATA-008")
            if subject not in patients:
                raise DataError("The table ICUSTAYS names a SUBJECT_ID that PATIENTS lacks.", code="FW-DATA-012")
            if hadm not in admissions or admissions[hadm].patient != subject:
                told = "The table ICUSTAYS names a HADM_ID that ADMISSIONS lacks for that patient."
                raise DataError(told, code="FW-DATA-012")
            if row[-1]:  # without OUTTIME the patient is still in intensive care and the outcome is open
                own = None if codes is None else tuple(codes.get(hadm, ()))
                stays[key] = _stay(row, patients[subject], admissions[hadm], begins[subject], own)
        return list(stays.values())

    def recorded(self, folder: Path, chosen: Sequence[Chosen]) -> Iterator[Event]:
        """See :meth:`TableCorpus.recorded`; laboratory values and, where the table is there, notes."""
        by_subject: dict[str, list[Chosen]] = {}
        for each in chosen:
            by_subject.setdefault(each.stay.patient, []).append(each)
        yield from _laboratory(folder, by_subject)
        if find_table(folder, "noteevents") is not None:
            yield from _notes(folder, by_subject)


def _patients(folder: Path) -> dict[str, _Patient]:
    patients: dict[str, _Patient] = {}
    for subject, gender, dob in read_rows(folder, "patients", ("subject_id", "gender", "dob")):
        if subject in patients:
            raise DataError("The table PATIENTS lists a SUBJECT_ID twice.", code="FW-DATA-008")
        tables.identifier(subject, "patients", "subject_id")
        patients[subject] = (_SEXES.get(gender, ""), tables.moment(dob, "patients", "dob"))
    return patients


def _admissions(folder: Path, outcomes: Collection[str]) -> dict[str, _Admission]:
    columns = ["subject_id", "hadm_id", "admission_type", "diagnosis", "hospital_expire_flag", "deathtime"]
    times = ("admittime", "dischtime") if "readmission" in outcomes else ()
    place = ("discharge_location",) if "destination" in outcomes else ()
    found = {}
    for row in read_rows(folder, "admissions", (*columns, *times, *place)):
        subject, hadm, kind, diagnosis, died, death, *more = row
        found[hadm] = _Admission(
            patient=subject,
            kind=kind,
            diagnosis=diagnosis,
            died=tables.flag(died, "admissions", "hospital_expire_flag"),
            death=tables.optional_moment(death, "admissions", "deathtime"),
            begin=tables.optional_moment(more[0], "admissions", "admittime") if times else None,
            end=tables.optional_moment(more[1], "admissions", "dischtime") if times else None,
            destination=_DESTINATIONS.get(more[-1].upper(), "other") if place and more[-1] else None,
        )
    return found


def _codes(folder: Path) -> dict[str, list[str]]:
    """ICD codes by admission."""
    codes: dict[str, list[str]] = {}
    for hadm, code in read_rows(folder, "diagnoses_icd", ("hadm_id", "icd9_code")):
        codes.setdefault(hadm, []).extend([code.replace(".", "").upper()] if code else [])
    return codes


def _again(end: datetime | None, begins: Sequence[datetime]) -> bool | None:
    """Whether an admission of any kind began within 30 days after ``end``; None without a discharge time."""
    if end is None:
        return None
    return any(timedelta() < begin - end <= timedelta(days=READMISSION_DAYS) for begin in begins)


def _stay(row: Row, patient: _Patient, admission: _Admission, begins: Sequence[datetime], codes: _Codes) -> Stay:
    subject, hadm, stay, unit, intime, outtime = row
    start, end = tables.moment(intime, "icustays", "intime"), tables.moment(outtime, "icustays", "outtime")
    age = _age(patient[1], start)
    known = {
        Kind.SEX: patient[0],
        Kind.UNIT: unit,
        Kind.ADMISSION: f"{admission.kind} admission" if admission.kind else "",
        Kind.DIAGNOSIS: admission.diagnosis,
    }
    outcome = Outcome(
        died=admission.died,
        unit_hours=_hours(start, end),
        death_hours=_death_hours(start, end, admission.death),
        hospital_hours=None if admission.end is None else _hours(start, admission.end),
        destination=admission.destination,
        readmitted=_again(admission.end, begins),
        codes=codes,
    )
    order = ((start - _EPOCH).total_seconds(),)
    return Stay(subject, stay, hadm, "", order, age, outcome, at_admission(subject, stay, age, known))


def _laboratory(folder: Path, chosen: Mapping[str, Sequence[Chosen]]) -> Iterator[Event]:
    names = {str(item): measurement.name for measurement in measurements().values() for item in measurement.mimic}
    columns = ("subject_id", "itemid", "charttime", "valuenum")
    for subject, item, time, value in read_rows(folder, "labevents", columns):
        if item not in names or subject not in chosen or not time:
            continue
        at = tables.moment(time, "labevents", "charttime")
        for stay, hours in _within(chosen[subject], at):
            parsed = tables.optional_number(value, "labevents", "valuenum")
            if parsed is not None:
                yield Event(subject, stay, hours, Kind.MEASUREMENT, names[item], parsed)


def _notes(folder: Path, chosen: Mapping[str, Sequence[Chosen]]) -> Iterator[Event]:
    columns = ("subject_id", "charttime", "category", "text")
    for subject, time, category, text, error in read_rows(folder, "noteevents", columns, optional=("iserror",)):
        # A note with a date only may have been written after prediction time, so it is left out.
        if subject not in chosen or not time or error == "1":
            continue
        at = tables.moment(time, "noteevents", "charttime")
        for stay, hours in _within(chosen[subject], at):
            yield Event(subject, stay, hours, Kind.NOTE, category.lower(), None, text)


def _within(chosen: Sequence[Chosen], time: datetime) -> Iterator[tuple[str, float]]:
    """Stays that ``time`` belongs to, from a day before admission to prediction, and the hours since admission."""
    seconds = (time - _EPOCH).total_seconds()
    for each in chosen:
        hours = (seconds - each.stay.order[0]) / 3600.0
        if -_LOOK_BACK_HOURS <= hours <= each.hours:
            yield each.stay.stay, hours


def _hours(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds() / 3600.0


def _death_hours(start: datetime, end: datetime, death: datetime | None) -> float | None:
    if death is None:
        return None
    hours, unit_hours = _hours(start, death), _hours(start, end)
    return unit_hours if abs(hours - unit_hours) <= _CLOSING_HOURS else hours


def _age(birth: datetime, admission: datetime) -> int:
    """Returns whole years; MIMIC-III moves births of patients over 89 to 300 years before admission."""
    years = admission.year - birth.year - ((admission.month, admission.day) < (birth.month, birth.day))
    return min(years, OLDEST)
