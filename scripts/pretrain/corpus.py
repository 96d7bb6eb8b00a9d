"""Text for pre-training the packaged encoder: other hospitals, concepts instead of outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from fedward.client.data.buckets import measurements
from fedward.client.data.events import Event, Kind, known_at_prediction, render
from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic.chart import Chart, chart_of
from fedward.simulations.synthetic.hospital import HospitalSpec, SyntheticPatient, draw_hospital, stream

CORPUS_DOMAIN = 0xC0A9F500
"""First seed word of the corpus; scenarios use ``SCENARIO_DOMAIN``, so no patient is ever in both."""

_HOSPITAL_SIZE = 250
_OTHER_WORD_SHARE = 0.08


def corpus(seeds: Iterable[int], patients: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yields text exactly as the MIMIC-III reader renders it, and which concepts it contains.

    Never the outcome, nor anything recorded after prediction time.

    Args:
        seeds: one set of hospitals is drawn per seed.
        patients: number of patients per seed.

    Yields:
        Text and concept labels (1 present, 0 not); all texts have the same keys, see :func:`concept_names`.
    """
    for seed in seeds:
        for index, first in enumerate(range(0, patients, _HOSPITAL_SIZE)):
            spec = HospitalSpec("corpus", min(_HOSPITAL_SIZE, patients - first), covariate_shift=0.5)
            hospital = draw_hospital(spec, index, (CORPUS_DOMAIN, seed, index))
            rng = stream(*hospital.stream, 1)
            for drawn in hospital.patients:
                patient = replace(drawn, labs=_every_word(drawn.labs, rng))
                yield patient_text(patient, chart_of(patient, rng)), concepts(patient)


def concept_names() -> list[str]:
    """Returns the keys of the concept labels, sorted."""
    labs = measurements()
    return sorted(
        [f"finding {finding.name}" for finding in known.FINDINGS]
        + [f"{name} {word}" for name in labs if labs[name].mimic for word in labs[name].words]
        + [f"age {band}" for band in known.AGE_BANDS]
        + [f"unit {unit.lower()}" for unit in known.UNITS]
        + [f"admission {kind.lower()}" for kind in known.ADMISSIONS]
        + [f"diagnosis {name.lower()}" for name in known.DIAGNOSES]
        + ["sex male"]
    )


def concepts(patient: SyntheticPatient) -> dict[str, int]:
    """Returns the concept labels of a patient: synonyms merged, the outcome left out."""
    present = {f"finding {name}" for name in patient.findings}
    present |= {f"{name} {word}" for name, word in patient.labs.items()}
    present |= {f"age {patient.age // 10 * 10}", f"unit {patient.unit.lower()}"}
    present |= {f"admission {patient.admission.lower()}", f"diagnosis {patient.diagnosis.lower()}"}
    if patient.sex == "M":
        present.add("sex male")
    return {name: int(name in present) for name in concept_names()}


def _every_word(labs: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
    """Returns the values with some of the table's other words, which real charts hold and scenarios never draw."""
    varied = dict(labs)
    for name, measurement in measurements().items():
        if measurement.mimic and rng.random() < _OTHER_WORD_SHARE:
            varied[name] = measurement.words[int(rng.integers(len(measurement.words)))]
    return varied


def patient_text(patient: SyntheticPatient, chart: Chart) -> str:
    """Returns what ``load_examples`` gives for the patient's written tables, without writing them."""
    identity = patient.patient_id

    def event(kind: Kind, text: str = "", value: float | None = None, *, at: float = 0.0, code: str = "") -> Event:
        return Event(identity, identity, at, kind, code or kind.value, value, text)

    events = [
        event(Kind.AGE, value=float(patient.age)),
        event(Kind.SEX, "male" if patient.sex == "M" else "female"),
        event(Kind.UNIT, patient.unit),
        event(Kind.ADMISSION, f"{patient.admission} admission"),
        event(Kind.DIAGNOSIS, patient.diagnosis),
        *(event(Kind.MEASUREMENT, value=value, at=hours, code=name) for name, hours, value in chart.labs),
        *(event(Kind.NOTE, note.text, at=note.hours, code=note.category.lower()) for note in chart.notes),
    ]
    return render(known_at_prediction(events))
