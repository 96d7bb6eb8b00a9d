"""The pre-training script, and the encoder that it made and that is committed."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fedward.client.models.adapter_model import load_base
from fedward.client.models.registry import PACKAGED_FOLDER, read_model_folder
from fedward.client.models.tokens import load_tokenizer, tokenize
from fedward.measures.auroc import within
from fedward.simulations.synthetic.chart import chart_of
from fedward.simulations.synthetic.hospital import SCENARIO_DOMAIN, HospitalSpec, draw, stream
from scripts.pretrain import __main__ as pretrain
from scripts.pretrain.corpus import CORPUS_DOMAIN, concept_names, corpus, patient_text
from scripts.pretrain.encoder import pooled_features

TRAIN = 900


@pytest.fixture(scope="module")
def tiny():
    return read_model_folder(PACKAGED_FOLDER / "tiny_clinical", "tiny-clinical")


@pytest.fixture(scope="module")
def scenario():
    """Patients and texts of one scenario hospital."""
    hospital = draw([HospitalSpec("fresh", 1500)], seed=2_000)[0]
    rng = stream(*hospital.stream, 1)
    return hospital.patients, [patient_text(patient, chart_of(patient, rng)) for patient in hospital.patients]


@pytest.fixture(scope="module")
def features(tiny, scenario):
    return pooled_features(load_base(tiny), tokenize(tiny, scenario[1], max_tokens=128))


def probe(features, target):
    """AUROC of a logistic regression on the first patients, scored on the others."""
    model = LogisticRegression(C=0.1, max_iter=2000).fit(features[:TRAIN], target[:TRAIN])
    return within(target[TRAIN:].astype(bool), model.predict_proba(features[TRAIN:])[:, 1], None)


def test_the_frozen_encoder_carries_most_of_what_there_is_to_know(scenario, features):
    patients = scenario[0]
    died = np.array([patient.died for patient in patients]).astype(int)
    best = within(died[TRAIN:].astype(bool), np.array([patient.eta for patient in patients])[TRAIN:], None)
    assert best - probe(features, died) < 0.07


@pytest.mark.parametrize("finding", ["fever", "hypotension", "ventilation", "metastases", "recovery"])
def test_findings_are_told_from_their_negations(scenario, features, finding):
    present = np.array([finding in patient.findings for patient in scenario[0]]).astype(int)
    assert probe(features, present) > 0.95


def test_no_word_of_the_generator_is_spelt_out(tiny, scenario):
    tokenizer = load_tokenizer(tiny)
    tokens = {token for text in scenario[1] for token in tokenizer.encode(text).tokens}
    assert "[UNK]" not in tokens
    assert not [token for token in tokens if token.startswith("##")]
    for phrase in pretrain.measurement_words():
        assert len(tokenizer.encode(phrase, add_special_tokens=False).ids) == len(phrase.split())


def test_the_card_names_the_committed_files(tiny):
    text = (tiny.folder / "DATA_CARD.md").read_text()
    assert tiny.sha256 in text
    assert f"{CORPUS_DOMAIN:#x}" in text
    assert {path.name for path in tiny.folder.iterdir()} == {
        "DATA_CARD.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (tiny.folder / "model.safetensors").stat().st_size < 2**20


def test_the_corpus_is_apart_from_every_scenario_and_has_no_outcome():
    assert CORPUS_DOMAIN != SCENARIO_DOMAIN
    texts = [text for text, _ in corpus(range(2), 50)]
    assert not [text for text in texts if "expired" in text or "discharged" in text]
    assert not [name for name in concept_names() if "died" in name or "death" in name or "mortality" in name]


def test_the_script_writes_a_model_that_resolves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "PATIENTS_PER_SEED", 40)
    for name in ("one", "two"):
        pretrain.main(["--out", str(tmp_path / name), "--patients", "80", "--epochs", "1"])
    one, two = (read_model_folder(tmp_path / name, "tiny-clinical") for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert one.sha256 in capsys.readouterr().out
    assert "80 synthetic patients" in (tmp_path / "one" / "DATA_CARD.md").read_text()
    assert "seeds | 0 to 1 " in (tmp_path / "one" / "DATA_CARD.md").read_text()
