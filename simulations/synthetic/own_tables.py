"""Tables of a synthetic hospital in a form of its own, German and with local codes, and the mapping file for them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from fedward.client.data.buckets import measurements
from fedward.config import to_toml
from fedward.simulations.synthetic.chart import DISCHARGE_SUMMARY, Admitted, Rows, admitted, write_truth
from fedward.simulations.synthetic.hospital import SyntheticHospital

_TABLES = {
    "Patienten.csv": "Pat-Nr Geschlecht",
    "Faelle.csv": "Fall-Nr Pat-Nr Alter Aufnahme Entlassung Art Diagnose tot Entlassungsart",
    "Intensiv.csv": "Aufenthalt Fall-Nr Station von bis",
    "Labor.csv": "Fall-Nr Analyt Wert Einheit Zeit",
    "Notizen.csv": "Pat-Nr Zeit Art Text",
    "Diagnosen.csv": "Fall-Nr ICD",
}
_MAPPING = {
    "format": {
        "encoding": "cp1252", "separator": ";", "decimal": ",", "times": ["%d.%m.%Y %H:%M:%S", "%d.%m.%Y"],
        "true": ["ja"], "false": [""],
    },
    "sexes": {"male": ["M"], "female": ["W"]},
    "persons": {"file": "Patienten.csv", "person": "Pat-Nr", "sex": "Geschlecht"},
    "admissions": {
        "file": "Faelle.csv", "person": "Pat-Nr", "admission": "Fall-Nr", "start": "Aufnahme", "end": "Entlassung",
        "age": "Alter", "arrival": "Art", "diagnosis": "Diagnose", "died": "tot", "destination": "Entlassungsart",
        "destinations": {"nach Hause": "home", "verstorben": "died"},
    },
    "stays": {
        "file": "Intensiv.csv", "stay": "Aufenthalt", "admission": "Fall-Nr", "start": "von", "end": "bis",
        "unit": "Station",
    },
    "measurements": {
        "laboratory": {
            "file": "Labor.csv", "admission": "Fall-Nr", "time": "Zeit", "code": "Analyt", "value": "Wert",
            "unit": "Einheit", "codes": {f"L{row.position}": name for name, row in measurements().items()},
        }
    },
    "notes": {
        "ward": {
            "file": "Notizen.csv", "person": "Pat-Nr", "time": "Zeit", "text": "Text", "category": "Art",
            "categories": {"Nursing": "nursing", "Physician": "physician", DISCHARGE_SUMMARY: "discharge summary"},
        }
    },
    "diagnoses": {"file": "Diagnosen.csv", "admission": "Fall-Nr", "code": "ICD"},
}  # fmt: skip


def write_own_tables(hospital: SyntheticHospital, folder: Path) -> None:
    """Writes six tables of CSV, ``mapping.toml`` and the truth."""
    rows: dict[str, Rows] = {name: [] for name in _TABLES}
    for stay in admitted(hospital):
        _add(rows, stay)
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in _TABLES.items():
        _write(folder / name, columns.split(), rows[name])
    (folder / "mapping.toml").write_text(to_toml(_MAPPING), encoding="utf-8")
    write_truth(hospital, folder)


def _add(rows: dict[str, Rows], stay: Admitted) -> None:
    patient, subject, case = stay.patient, stay.patient.patient_id, stay.admission
    start, end, left = (_time(moment) for moment in (stay.start, stay.end, stay.left))
    place, dead = ("verstorben", "ja") if patient.died else ("nach Hause", "")
    age = ">89" if patient.age > 89 else patient.age
    rows["Patienten.csv"].append((subject, "M" if patient.sex == "M" else "W"))
    rows["Faelle.csv"].append((case, subject, age, start, left, patient.admission, patient.diagnosis, dead, place))
    rows["Intensiv.csv"].append((stay.stay, case, patient.unit, start, end))
    rows["Diagnosen.csv"].append((case, stay.code))
    table = measurements()
    for name, hours, value in stay.chart.labs:
        written = str(value).replace(".", ",")
        rows["Labor.csv"].append((case, f"L{table[name].position}", written, table[name].unit, _time(stay.at(hours))))
    for note in stay.chart.notes:
        at = stay.at(note.hours)
        when = f"{at:%d.%m.%Y}" if note.category == DISCHARGE_SUMMARY else _time(at)
        rows["Notizen.csv"].append((subject, when, note.category, note.text))


def _time(moment: datetime) -> str:
    return f"{moment:%d.%m.%Y %H:%M:%S}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(header)
        writer.writerows(rows)
