"""Reader of the MIMIC-IV layout (Johnson et al., Sci Data 2023; versions 1.0 to 3.1): hosp, icu, note and ed folders.

The folder may be the root of the download, or hold all tables side by side as database exports do. Discharge notes
tell the outcome: the leakage guard lets them through to no task that is predicted before discharge. ``dod`` comes from
state records and includes deaths after discharge, so it is never the outcome of a stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedward.client.corpora.mimic import Mimic, cells
from fedward.client.corpora.stay_facts import (
    OLDEST_POSSIBLE,
    Measured,
    add_measurements,
    known_seconds,
    of_the_stays,
    once,
    plausible,
)
from fedward.client.data.batch import YEARS, Batch
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen
from fedward.client.data.measured_units import in_own_units
from fedward.client.data.timeline import Timeline, seconds_of

_HOME = ("HOME", "HOME HEALTH CARE", "HOSPICE", "ASSISTED LIVING", "AGAINST ADVICE")
_FACILITY = (
    "SKILLED NURSING FACILITY", "REHAB", "CHRONIC/LONG TERM ACUTE CARE", "OTHER FACILITY", "ACUTE HOSPITAL",
    "PSYCH FACILITY", "HEALTHCARE FACILITY",
)  # fmt: skip
_OBSERVATION = ("DIRECT OBSERVATION", "EU OBSERVATION", "OBSERVATION ADMIT", "AMBULATORY OBSERVATION")
_VITAL = {"temperature": "temperature", "heartrate": "heart rate", "resprate": "breathing"}
_TIMES = ("charttime", "storetime")


class MimicIV(Mimic):
    """Stays in intensive care, with vital signs, and emergency department triage where its tables are there."""

    name: ClassVar[str] = "mimic-iv"
    title: ClassVar[str] = "MIMIC-IV (Johnson et al. 2023)"
    required: ClassVar[tuple[str, ...]] = ("PATIENTS", "ADMISSIONS", "ICUSTAYS", "LABEVENTS")
    optional: ClassVar[tuple[str, ...]] = (
        "CHARTEVENTS", "DIAGNOSES_ICD", "RADIOLOGY", "DISCHARGE", "EDSTAYS", "TRIAGE", "VITALSIGN",
    )  # fmt: skip
    parts: ClassVar[tuple[str, ...]] = ("hosp", "icu", "core", "note", "ed")
    stay_key: ClassVar[str] = "stay_id"
    code: ClassVar[str] = "icd_code"
    arrivals: ClassVar[Mapping[str, str]] = {
        "EW EMER.": "emergency", "DIRECT EMER.": "emergency", "SURGICAL SAME DAY ADMISSION": "elective",
        **dict.fromkeys(_OBSERVATION, "observation"),
    }  # fmt: skip
    destinations: ClassVar[Mapping[str, str]] = {
        "DIED": "died", **dict.fromkeys(_HOME, "home"), **dict.fromkeys(_FACILITY, "facility"),
    }  # fmt: skip
    notes: ClassVar[Mapping[str, str]] = {"radiology": "radiology", "discharge": "discharge summary"}

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`; patients without an anchor age are those of MIMIC-III."""
        patients = self.table(folder, "patients")
        ours = patients is None or patients.has("anchor_age") or not patients.header
        return super().missing(folder) if ours else list(self.required)

    def births(self, folder: Path) -> dict[str, tuple[str, datetime | None]]:
        """See :meth:`Mimic.births`; on the patient's own shifted calendar, where over 89 is 91."""
        table, found, seen = self.need(folder, "patients"), dict[str, tuple[str, datetime | None]](), set[str]()
        for batch in table.read(("subject_id", "gender", "anchor_age", "anchor_year")):
            keys = batch.required("subject_id").to_pylist()
            once(keys, seen, table, "subject_id", batch.rows)
            ages, years = batch.numbers("anchor_age").to_pylist(), batch.numbers("anchor_year").to_pylist()
            rows = zip(batch.rows.tolist(), keys, batch.text("gender").to_pylist(), ages, years, strict=True)
            for row, key, sex, age, year in rows:
                if year is not None and int(year) not in YEARS:
                    raise batch.wrong("anchor_year", f"a year of {YEARS[0]} to {YEARS[-1]}", row)
                if age is not None and not 0 <= age <= OLDEST_POSSIBLE:
                    raise batch.wrong("anchor_age", "an age", row)
                born = None if age is None or year is None else datetime(int(year) - int(age), 1, 1)
                found[key] = (sex or "", born)
        return found

    def diagnoses(self, folder: Path) -> Mapping[str, str]:
        """See :meth:`Mimic.diagnoses`; the chief complaint at triage."""
        stays, triage = self.table(folder, "edstays"), self.table(folder, "triage")
        if stays is None or triage is None or not triage.has("chiefcomplaint"):
            return {}
        admissions = {key: hadm for hadm, key in cells(stays, ("hadm_id", "stay_id")) if hadm}
        told = cells(triage, ("stay_id", "chiefcomplaint"))
        return {admissions[key]: words for key, words in told if key in admissions and words}

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; laboratory, bedside monitor, triage and notes."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        for name, vocabulary in (("labevents", "mimic_iv"), ("chartevents", "chart")):
            table = self.table(folder, name)
            if table is not None:
                measured = Measured(
                    "subject_id", "itemid", _TIMES, "valuenum", vocabulary, "valueuom", written=("value", "comments")
                )  # fmt: skip
                add_measurements([table], measured, timeline, drops)
        self._add_triage(folder, timeline, drops)
        self._add_vital_signs(folder, timeline, drops)
        self.add_notes(folder, timeline, drops)
        return timeline

    def _add_triage(self, folder: Path, timeline: Timeline, drops: Drops) -> None:
        """Triage has no time of its own: it is taken on arrival."""
        stays, triage = self.table(folder, "edstays"), self.table(folder, "triage")
        if stays is None or triage is None:
            return
        arrivals = dict(cells(stays, ("stay_id", "intime"), ("intime",)))
        for every in triage.read(("subject_id", "stay_id"), optional=tuple(_VITAL)):
            batch = every.where(of_the_stays(every, every.identifiers("subject_id"), timeline, drops, "subject_id"))
            times = [arrivals.get(key) for key in batch.identifiers("stay_id").to_pylist()]
            seconds = np.array([np.nan if time is None else seconds_of(time) for time in times])
            absent = np.isnan(seconds)
            if absent.any():
                words = "STAY_ID is not in EDSTAYS, or has no INTIME there"
                drops.add(batch.file, words, int(absent.sum()), int(batch.rows[absent][0]))
            _add_vital(batch, seconds, timeline, drops)

    def _add_vital_signs(self, folder: Path, timeline: Timeline, drops: Drops) -> None:
        """Vital signs of the emergency department, known when they were taken."""
        table = self.table(folder, "vitalsign")
        for every in table.read(("subject_id", "charttime"), optional=tuple(_VITAL)) if table else ():
            batch = every.where(of_the_stays(every, every.identifiers("subject_id"), timeline, drops, "subject_id"))
            _add_vital(batch, known_seconds(batch, ("charttime",), drops), timeline, drops)


def _add_vital(batch: Batch, seconds: NDArray[np.float64], timeline: Timeline, drops: Drops) -> None:
    """Adds vital signs in wide form; the emergency department measures in Fahrenheit."""
    if not len(batch):
        return
    drops.use(batch.file, int(np.isfinite(seconds).sum()))
    match = timeline.of_patients(batch.identifiers("subject_id"), seconds)
    for column, name in _VITAL.items():
        names, units = pa.array([name] * len(batch)), pa.nulls(len(batch), pa.string())
        values = batch.numbers(column, drops)
        values = in_own_units(names, values, units, batch.file, drops, batch.rows, declared={"temperature": "°F"})
        timeline.add(match, names, plausible(names, values, batch.file, drops, batch.rows))
