"""Large folders of invented results, written fast: MIMIC-III and MIMIC-IV as CSV, packed with gzip, and as parquet.

Quotation marks stand where the published files have them: around every word of MIMIC-III, around none of MIMIC-IV.
Half of the results are of measurements that fedward knows, and a third lie in the first day of a stay.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedward.client.data.buckets import names_by_code

ROWS_A_STAY = 400
_BYTES_A_ROW = {"mimic-iii": 73, "mimic-iv": 109}
_DAY = 86_400
_CHUNK = 1_000  # stays


@dataclass
class Stays:
    """Invented stays, one a patient."""

    count: int
    starts: NDArray[np.int64] = field(init=False)  # seconds since 1970
    days: NDArray[np.float64] = field(init=False)
    died: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(5)
        self.starts = 5_000_000_000 + rng.integers(0, 20 * 365, self.count) * _DAY + rng.integers(0, _DAY, self.count)
        self.days = 0.5 + rng.exponential(3.0, self.count)
        self.died = (rng.random(self.count) < 0.1).astype(np.int64)

    def ids(self, first: int) -> NDArray[np.int64]:
        """Identifiers from ``first``."""
        return np.arange(first, first + self.count)

    def after(self, days: NDArray[np.float64]) -> pa.Array:
        """Times ``days`` after the beginning of each."""
        return _times(self.starts + (days * _DAY).astype(np.int64))

    def results(self, codes: list[int]) -> Iterator[dict[str, pa.Array]]:
        """Results in parts: ordered by stay, with their times."""
        rng = np.random.default_rng(6)
        for first in range(0, self.count, _CHUNK):
            stays = np.repeat(np.arange(first, min(first + _CHUNK, self.count)), ROWS_A_STAY)
            size = len(stays)
            times = self.starts[stays] + rng.integers(-_DAY, 2 * _DAY, size)
            values = np.round(rng.lognormal(2.0, 1.0, size), 1)
            words = rng.random(size) < 0.03
            said = pa.array(np.where(words, "NEG", values.astype("U12")))
            yield {
                "subject": pa.array(10_000 + stays), "admission": pa.array(100_000 + stays),
                "stay": pa.array(200_000 + stays), "item": pa.array(rng.choice(codes, size)), "time": _times(times),
                "stored": _times(times + rng.integers(0, 7200, size)), "text": said,
                "number": pa.array(values, mask=words), "unit": pa.array(rng.choice(["mg/dL", "mmol/L", "%"], size)),
                "row": pa.array(np.arange(size) + first * ROWS_A_STAY),
            }  # fmt: skip


def _times(seconds: NDArray[np.int64]) -> pa.Array:
    return pc.cast(pa.array(seconds), pa.timestamp("s"))


def _codes(vocabulary: str) -> list[int]:
    known = sorted(map(int, names_by_code(vocabulary)))
    return known + [900_000 + number for number in range(len(known))]


def write_mimic3(folder: Path, size: int) -> None:
    """Writes a MIMIC-III folder of ``size`` bytes."""
    stays = Stays(max(30, size // (ROWS_A_STAY * _BYTES_A_ROW["mimic-iii"])))
    quoted = _Csv(folder, words="needed")
    subject, admission, stay = stays.ids(10_000), stays.ids(100_000), stays.ids(200_000)
    births = _times(stays.starts - np.random.default_rng(7).integers(20, 85, stays.count) * 365 * _DAY)
    left, none = stays.after(stays.days + 1.0), pa.nulls(stays.count, pa.string())
    quoted.write(
        "PATIENTS", {"ROW_ID": subject, "SUBJECT_ID": subject, "GENDER": _words(stays, "F", "M"), "DOB": births}
    )
    admissions = {
        "ROW_ID": admission, "SUBJECT_ID": subject, "HADM_ID": admission, "ADMITTIME": stays.after(stays.days * 0),
        "DISCHTIME": left, "DEATHTIME": pc.if_else(pa.array(stays.died == 1), left, None),
        "ADMISSION_TYPE": _words(stays, "EMERGENCY", "URGENT"), "DISCHARGE_LOCATION": none, "DIAGNOSIS": none,
        "HOSPITAL_EXPIRE_FLAG": stays.died,
    }  # fmt: skip
    quoted.write("ADMISSIONS", admissions)
    units = {
        "ROW_ID": stay, "SUBJECT_ID": subject, "HADM_ID": admission, "ICUSTAY_ID": stay,
        "FIRST_CAREUNIT": _words(stays, "MICU", "SICU"), "INTIME": stays.after(stays.days * 0),
        "OUTTIME": stays.after(stays.days), "LOS": stays.days,
    }  # fmt: skip
    quoted.write("ICUSTAYS", units)
    names = {
        "row": "ROW_ID", "subject": "SUBJECT_ID", "admission": "HADM_ID", "item": "ITEMID", "time": "CHARTTIME",
        "text": "VALUE", "number": "VALUENUM", "unit": "VALUEUOM",
    }  # fmt: skip
    parts = ({name: part[key] for key, name in names.items()} for part in stays.results(_codes("mimic")))
    quoted.write_parts("LABEVENTS", ({**part, "FLAG": pa.nulls(len(part["ROW_ID"]), pa.string())} for part in parts))


def write_mimic4(folder: Path, size: int) -> None:
    """Writes a MIMIC-IV folder of ``size`` bytes, half of them results of the bedside monitor."""
    stays = Stays(max(30, size // (2 * ROWS_A_STAY * _BYTES_A_ROW["mimic-iv"])))
    plain = _Csv(folder, words="none")
    subject, admission, stay = stays.ids(10_000), stays.ids(100_000), stays.ids(200_000)
    years = pc.year(stays.after(stays.days * 0))
    ages = np.random.default_rng(7).integers(20, 90, stays.count)
    left, none = stays.after(stays.days + 1.0), pa.nulls(stays.count, pa.string())
    patients = {"subject_id": subject, "gender": _words(stays, "F", "M"), "anchor_age": ages, "anchor_year": years}
    plain.write("hosp/patients", {**patients, "dod": none})
    admissions = {
        "subject_id": subject, "hadm_id": admission, "admittime": stays.after(stays.days * 0), "dischtime": left,
        "deathtime": pc.if_else(pa.array(stays.died == 1), left, None),
        "admission_type": _words(stays, "EW EMER.", "URGENT"), "discharge_location": none,
        "hospital_expire_flag": stays.died,
    }  # fmt: skip
    plain.write("hosp/admissions", admissions)
    units = {
        "subject_id": subject, "hadm_id": admission, "stay_id": stay, "first_careunit": _words(stays, "MICU", "SICU"),
        "intime": stays.after(stays.days * 0), "outtime": stays.after(stays.days), "los": stays.days,
    }  # fmt: skip
    plain.write("icu/icustays", units)
    plain.write_parts("hosp/labevents", map(_laboratory, stays.results(_codes("mimic_iv"))))
    plain.write_parts("icu/chartevents", map(_bedside, stays.results(_codes("chart"))))


def _laboratory(part: dict[str, pa.Array]) -> dict[str, pa.Array]:
    none = pa.nulls(len(part["row"]), pa.string())
    return {
        "labevent_id": part["row"], "subject_id": part["subject"], "hadm_id": part["admission"],
        "specimen_id": part["row"], "itemid": part["item"], "charttime": part["time"], "storetime": part["stored"],
        "value": part["text"], "valuenum": part["number"], "valueuom": part["unit"], "ref_range_lower": none,
        "flag": none, "priority": pc.if_else(pc.is_valid(part["row"]), "ROUTINE", ""), "comments": none,
    }  # fmt: skip


def _bedside(part: dict[str, pa.Array]) -> dict[str, pa.Array]:
    return {
        "subject_id": part["subject"], "hadm_id": part["admission"], "stay_id": part["stay"],
        "caregiver_id": part["row"], "charttime": part["time"], "storetime": part["stored"], "itemid": part["item"],
        "value": part["text"], "valuenum": part["number"], "valueuom": part["unit"],
        "warning": pc.multiply(part["row"], 0),
    }  # fmt: skip


def _words(stays: Stays, *words: str) -> pa.Array:
    return pa.array(np.array(words)[np.arange(stays.count) % len(words)])


@dataclass(frozen=True)
class _Csv:
    folder: Path
    words: str

    def write(self, name: str, columns: dict[str, object]) -> None:
        self.write_parts(name, iter([columns]))

    def write_parts(self, name: str, parts: Iterator[dict[str, object]]) -> None:
        path = self.folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(next(parts))
        with path.open("wb") as file:
            file.write(",".join(table.column_names).encode() + b"\n")
            with arrow_csv.CSVWriter(
                file, table.schema, write_options=arrow_csv.WriteOptions(include_header=False, quoting_style=self.words)
            ) as writer:
                writer.write_table(table)
                for part in parts:
                    writer.write_table(pa.table(part, schema=table.schema))


def packed(folder: Path, target: Path) -> None:
    """Copies a folder with each table packed with gzip."""
    for path in sorted(folder.rglob("*.csv")):
        place = target / path.relative_to(folder).with_name(f"{path.name}.gz")
        place.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as plain, gzip.open(place, "wb", compresslevel=1) as file:
            shutil.copyfileobj(plain, file, 1 << 20)


def as_parquet(folder: Path, target: Path) -> None:
    """Copies a folder with each table as parquet, columns typed."""
    for path in sorted(folder.rglob("*.csv")):
        place = target / path.relative_to(folder).with_suffix(".parquet")
        place.parent.mkdir(parents=True, exist_ok=True)
        with arrow_csv.open_csv(path) as parts, pq.ParquetWriter(place, parts.schema) as writer:
            for part in parts:
                writer.write_batch(part)


WRITERS: dict[str, Callable[[Path, int], None]] = {"mimic-iii": write_mimic3, "mimic-iv": write_mimic4}
