from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from fedward.client.data import load_examples
from fedward.client.data.deid_english import scrub
from fedward.client.folder import check_folder
from fedward.simulations.synthetic import SyntheticHospital, write_mimic3
from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic.chart import chart_of
from fedward.simulations.synthetic.hospital import stream
from scripts.pretrain.corpus import patient_text


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_reader_finds_every_patient_and_outcome(hospital: SyntheticHospital, written: Path) -> None:
    examples = load_examples(written, format="mimic-iii", task="mortality")
    assert {e.patient_id: e.label for e in examples} == {p.patient_id: int(p.died) for p in hospital.patients}
    assert not check_folder(written).problems


def test_the_text_carries_everything_the_risk_depends_on(hospital: SyntheticHospital, written: Path) -> None:
    texts = {e.patient_id: e.text for e in load_examples(written, format="mimic-iii", task="mortality")}
    for patient in hospital.patients:
        phrases = texts[patient.patient_id].split(" . ")
        for finding in known.FINDINGS:
            assert (finding.name in patient.findings) == any(phrase in phrases for phrase in finding.present)
        for lab in known.LABS:
            said = [phrase for phrase in phrases if phrase.startswith(f"{lab.name} ")]
            assert said == ([f"{lab.name} {patient.labs[lab.name]}"] if lab.name in patient.labs else [])
        age = "age over 89" if patient.age >= 90 else f"age {patient.age // 10 * 10}s"
        assert {age, patient.unit.lower(), f"{patient.admission.lower()} admission"} <= set(phrases)
        assert patient.diagnosis.lower() in phrases


def test_the_outcome_is_written_down_but_never_read(written: Path) -> None:
    notes = [row["TEXT"] for row in rows(written / "NOTEEVENTS.csv")]
    assert any("expired" in note for note in notes)
    for example in load_examples(written, format="mimic-iii", task="mortality"):
        assert not {"expired", "discharged", "condition"} & set(example.text.split())


def test_text_has_the_length_small_encoders_read(written: Path) -> None:
    lengths = [len(e.text.split()) for e in load_examples(written, format="mimic-iii", task="mortality")]
    assert max(lengths) < 120
    assert 40 < sum(lengths) / len(lengths) < 65


def test_corpus_text_is_what_the_reader_gives(hospital: SyntheticHospital, written: Path) -> None:
    rng = stream(*hospital.stream, 1)
    texts = {e.patient_id: e.text for e in load_examples(written, format="mimic-iii", task="mortality")}
    for patient in hospital.patients:
        assert patient_text(patient, chart_of(patient, rng)) == texts[patient.patient_id]
        rng.integers(0, 40 * 365 * 24 * 60)  # the writer draws the day of admission after each chart


def test_writing_twice_gives_the_same_bytes(hospital: SyntheticHospital, written: Path, tmp_path: Path) -> None:
    write_mimic3(hospital, tmp_path)
    for path in sorted(written.rglob("*.csv")):
        assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes()


def test_truth_lies_outside_the_tables(written: Path) -> None:
    tables = {path.name for path in written.glob("*.csv")}
    assert tables == {f"{name}.csv" for name in (
        "PATIENTS", "ADMISSIONS", "ICUSTAYS", "DIAGNOSES_ICD", "LABEVENTS", "D_LABITEMS", "NOTEEVENTS",
    )}  # fmt: skip
    assert {path.name for path in (written / "truth").iterdir()} == {"eta.csv", "identifiers.csv"}


def test_scrubbing_finds_the_fake_identifiers(written: Path) -> None:
    """Recall of whole identifiers by class; the generator knows every place."""
    notes = {row["ROW_ID"]: row["TEXT"] for row in rows(written / "NOTEEVENTS.csv")}
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in rows(written / "truth" / "identifiers.csv"):
        start, end = int(row["START"]), int(row["END"])
        covered = {place for span in scrub(notes[row["ROW_ID"]]).spans for place in range(span.start, span.end)}
        total[row["KIND"]] += 1
        found[row["KIND"]] += set(range(start, end)) <= covered
    assert set(total) == {"NAME", "MRN", "DATE", "AGE", "PHONE", "EMAIL", "ADDRESS"}
    recall = {kind: found[kind] / total[kind] for kind in total}
    print(f"recall of {sum(total.values())} fake identifiers: {recall}")
    assert min(recall.values()) == 1.0
