from __future__ import annotations

from fedward.simulations.synthetic import HospitalSpec, draw
from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic.hospital import SCENARIO_DOMAIN, draw_hospital
from scripts.pretrain.corpus import CORPUS_DOMAIN, concept_names, corpus


def test_size_keys_and_repeatability() -> None:
    first, again = list(corpus(range(2), 30)), list(corpus(range(2), 30))
    assert first == again
    assert len(first) == 60
    assert all(list(labels) == concept_names() for _, labels in first)
    assert all(value in (0, 1) for _, labels in first for value in labels.values())


def test_concepts_are_what_the_text_says() -> None:
    for text, labels in corpus(range(1), 200):
        phrases = text.split(" . ")
        for finding in known.FINDINGS:
            assert labels[f"finding {finding.name}"] == any(phrase in phrases for phrase in finding.present)
        said = {name for name in labels if name in phrases and not name.startswith(("finding", "age", "unit"))}
        labs = {name for name, value in labels.items() if value and name.rsplit(" ", 1)[0].split(" ")[0] in LAB_WORDS}
        assert labs == {name for name in said if name.split(" ")[0] in LAB_WORDS}


def test_no_concept_tells_the_outcome() -> None:
    assert not [name for name in concept_names() if "died" in name or "mortality" in name or "expire" in name]


def test_negations_occur() -> None:
    texts = [text for text, _ in corpus(range(1), 200)]
    assert sum("no fever" in text or "afebrile" in text or "denies fever" in text for text in texts) > 5


def test_corpus_and_scenarios_never_share_a_stream() -> None:
    assert CORPUS_DOMAIN != SCENARIO_DOMAIN
    spec = HospitalSpec("A", 250)
    assert draw_hospital(spec, 0, (CORPUS_DOMAIN, 0, 0)).eta != draw([spec], 0)[0].eta
    assert draw_hospital(spec, 0, (SCENARIO_DOMAIN, 0, 0)) == draw([spec], 0)[0]


LAB_WORDS = {"lactate", "creatinine", "urea", "bilirubin", "leukocytes", "platelets", "hemoglobin", "sodium",
             "potassium", "bicarbonate", "glucose", "albumin"}  # fmt: skip
