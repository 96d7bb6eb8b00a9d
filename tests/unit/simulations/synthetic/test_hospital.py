from __future__ import annotations

import numpy as np
import pytest

from fedward.simulations.synthetic import HospitalSpec, SyntheticHospital, bayes_auroc, default_hospitals, draw
from fedward.simulations.synthetic import findings as known


def risks(hospital: SyntheticHospital) -> np.ndarray:
    return np.array(list(hospital.eta.values()))


def test_same_seed_same_hospitals_other_seed_others() -> None:
    specs = [HospitalSpec("A", 50), HospitalSpec("B", 60)]
    assert draw(specs, 3) == draw(specs, 3)
    assert draw(specs, 3)[0].eta != draw(specs, 4)[0].eta


def test_a_hospital_does_not_depend_on_the_others() -> None:
    first = HospitalSpec("A", 50)
    assert draw([first], 3)[0] == draw([first, HospitalSpec("B", 60)], 3)[0]


def test_identifiers_are_unique_over_hospitals() -> None:
    drawn = draw([HospitalSpec("A", 50), HospitalSpec("B", 60)], 3)
    assert len({key for hospital in drawn for key in hospital.eta}) == 110


def test_risk_follows_from_what_the_patient_has() -> None:
    """Recomputes eta from the findings by hand: the text can carry everything it depends on."""
    for patient in draw([HospitalSpec("A", 200, label_shift=0.4)], 5)[0].patients:
        logit = known.BASE_LOG_ODDS + 0.4
        logit += sum(f.weight for f in known.FINDINGS if f.name in patient.findings)
        for lab in known.LABS:
            word = patient.labs.get(lab.name)
            logit += lab.weight * {lab.word: 1.0, lab.severe: known.SEVERE_FACTOR}.get(word, 0.0)
        finding, lab_name, weight = known.INTERACTION
        lactate = next(lab for lab in known.LABS if lab.name == lab_name)
        if finding in patient.findings and patient.labs.get(lab_name) in (lactate.word, lactate.severe):
            logit += weight
        logit += known.AGE_WEIGHTS[known.AGE_BANDS.index(patient.age // 10 * 10)]
        logit += known.UNIT_WEIGHTS[known.UNITS.index(patient.unit)]
        logit += known.ADMISSION_WEIGHTS[known.ADMISSIONS.index(patient.admission)]
        logit += known.DIAGNOSIS_WEIGHTS[known.DIAGNOSES.index(patient.diagnosis)]
        assert patient.eta == pytest.approx(1.0 / (1.0 + np.exp(-logit)))


def test_outcomes_match_the_risk() -> None:
    patients = draw([HospitalSpec("A", 20_000)], 1)[0].patients
    assert np.mean([p.died for p in patients]) == pytest.approx(np.mean([p.eta for p in patients]), abs=0.01)


def test_default_federation_has_the_intended_difficulty() -> None:
    hospitals = draw(default_hospitals(), 11)
    aurocs = [bayes_auroc(risks(hospital)) for hospital in hospitals]
    prevalence = np.concatenate([risks(hospital) for hospital in hospitals]).mean()
    assert 0.845 < np.mean(aurocs) < 0.895
    assert 0.14 < prevalence < 0.26
    assert [round(0.6 * len(hospital.patients), -1) for hospital in hospitals] == [200, 250, 300, 400, 550, 790]


def test_more_hospitals_are_more_of_the_same_kinds_under_names_of_their_own() -> None:
    specs = default_hospitals(15)
    assert len({spec.name for spec in specs}) == 15
    assert specs[:6] == default_hospitals()
    assert [spec.patients for spec in specs[6:12]] == [spec.patients for spec in specs[:6]]
    assert default_hospitals(4) == specs[:4]


def test_each_knob_moves_what_it_names() -> None:
    plain, label = (draw([HospitalSpec("A", 3000, label_shift=shift)], 2)[0] for shift in (0.0, 1.0))
    assert [p.findings for p in plain.patients] == [p.findings for p in label.patients]
    odds = [np.log(risks(h) / (1 - risks(h))) for h in (plain, label)]
    assert np.allclose(odds[1] - odds[0], 1.0)

    concept = draw([HospitalSpec("A", 3000, concept_shift=0.5)], 2)[0]
    assert [p.findings for p in concept.patients] == [p.findings for p in plain.patients]
    assert not np.allclose(risks(concept), risks(plain))

    covariate = draw([HospitalSpec("A", 3000, covariate_shift=1.0)], 2)[0]
    rates = [np.mean(["fever" in p.findings for p in h.patients]) for h in (plain, covariate)]
    assert rates[0] == pytest.approx(0.25, abs=0.03)
    assert any(
        abs(np.mean([f.name in p.findings for p in covariate.patients]) - f.prevalence) > 0.05 for f in known.FINDINGS
    )


@pytest.mark.parametrize("patients", [0, -1, 100_000])
def test_impossible_sizes_are_refused(patients: int) -> None:
    with pytest.raises(ValueError, match="patients"):
        draw([HospitalSpec("A", patients)], 1)
