"""Reader of the MIMIC-III layout (Johnson et al., Sci Data 2016): tables as published on PhysioNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from fedward.client.corpora.mimic import Mimic
from fedward.client.corpora.stay_facts import Measured, add_measurements, once
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen
from fedward.client.data.timeline import Timeline

_HOME = ("HOME", "HOME HEALTH CARE", "HOME WITH HOME IV PROVIDR", "HOSPICE-HOME")
_FACILITY = (
    "SNF", "SNF-MEDICAID ONLY CERTIF", "REHAB/DISTINCT PART HOSP", "LONG TERM CARE HOSPITAL", "ICF",
    "OTHER FACILITY", "SHORT TERM HOSPITAL", "DISCH-TRAN TO PSYCH HOSP", "DISC-TRAN CANCER/CHLDRN H",
    "DISC-TRAN TO FEDERAL HC", "HOSPICE-MEDICAL FACILITY",
)  # fmt: skip


class MimicIII(Mimic):
    """Stays in intensive care; the notes are free text."""

    name: ClassVar[str] = "mimic-iii"
    title: ClassVar[str] = "MIMIC-III (Johnson et al. 2016)"
    required: ClassVar[tuple[str, ...]] = ("PATIENTS", "ADMISSIONS", "ICUSTAYS", "LABEVENTS")
    optional: ClassVar[tuple[str, ...]] = ("NOTEEVENTS", "DIAGNOSES_ICD")
    stay_key: ClassVar[str] = "icustay_id"
    code: ClassVar[str] = "icd9_code"
    destinations: ClassVar[Mapping[str, str]] = {
        "DEAD/EXPIRED": "died", **dict.fromkeys(_HOME, "home"), **dict.fromkeys(_FACILITY, "facility"),
    }  # fmt: skip
    notes: ClassVar[Mapping[str, str]] = {"noteevents": ""}

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`; patients with an anchor age are those of MIMIC-IV."""
        patients = self.table(folder, "patients")
        return list(self.required) if patients and patients.has("anchor_age") else super().missing(folder)

    def births(self, folder: Path) -> dict[str, tuple[str, datetime | None]]:
        """See :meth:`Mimic.births`."""
        table, found, seen = self.need(folder, "patients"), dict[str, tuple[str, datetime | None]](), set[str]()
        for batch in table.read(("subject_id", "gender", "dob")):
            keys = batch.required("subject_id").to_pylist()
            once(keys, seen, table, "subject_id", batch.rows)
            births = batch.moments("dob").to_list()
            found |= zip(
                keys, zip((sex or "" for sex in batch.text("gender").to_pylist()), births, strict=True), strict=True
            )
        return found

    def timeline(self, folder: Path, chosen: Sequence[Chosen], drops: Drops) -> Timeline:
        """See :meth:`StayCorpus.timeline`; laboratory values and, where the table is there, notes."""
        timeline = Timeline(chosen, [each.stay.order[0] for each in chosen])
        laboratory = Measured("subject_id", "itemid", ("charttime",), "valuenum", "mimic", "valueuom")
        add_measurements([self.need(folder, "labevents")], laboratory, timeline, drops)
        self.add_notes(folder, timeline, drops)
        return timeline
