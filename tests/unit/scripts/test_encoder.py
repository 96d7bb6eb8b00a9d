import numpy as np
import pytest
import torch

from fedward.client.models.adapter_model import load_base
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import tokenize
from scripts.pretrain.encoder import PretrainingSettings, pooled_features, pretrain, write_base_model
from scripts.pretrain.vocabulary import SPECIAL_TOKENS, build_tokenizer

SETTINGS = PretrainingSettings(hidden=16, layers=1, heads=2, intermediate=16, positions=32, epochs=6, batch=16)
WORDINGS = {"fever": ("fever", "febrile"), "no fever": ("afebrile", "no fever"), "": ("resting",)}


@pytest.fixture(scope="module")
def corpus():
    """Texts with a finding in several wordings, and whether it is present."""
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for _ in range(400):
        state = list(WORDINGS)[rng.integers(3)]
        noise = ["cough", "micu", "lactate high"]
        words = [WORDINGS[state][rng.integers(len(WORDINGS[state]))], *noise[: rng.integers(4)]]
        texts.append(" . ".join(rng.permutation(words)))
        labels.append([state == "fever"])
    return texts, np.array(labels, dtype=np.float32)


def train(corpus):
    texts, labels = corpus
    tokenizer = build_tokenizer(texts, ["sodium very low"])
    losses = []
    encoder, document = pretrain(texts, labels, tokenizer, SETTINGS, lambda *step: losses.append(step))
    return encoder, document, tokenizer, losses


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    encoder, document, tokenizer, losses = train(corpus)
    folder = tmp_path_factory.mktemp("encoder")
    write_base_model(folder, encoder, tokenizer, document)
    return resolve(folder), encoder, losses


def test_concepts_are_learnt(trained):
    losses = trained[2]
    # A constant guess has a squared error of 2/9.
    assert np.mean([coded for _, _, coded in losses[-20:]]) < 0.1
    assert np.mean([masked for _, masked, _ in losses[-20:]]) < losses[0][1]


def test_what_is_written_is_what_was_trained(trained, corpus):
    files, encoder, _ = trained
    tokens = tokenize(files, corpus[0][:8], max_tokens=32)
    assert np.array_equal(pooled_features(encoder, tokens), pooled_features(load_base(files), tokens))


def test_pooled_features_are_standardised(trained, corpus):
    files, encoder, _ = trained
    features = pooled_features(encoder, tokenize(files, corpus[0], max_tokens=32))
    assert np.allclose(features.mean(0), 0, atol=1e-3)
    assert np.allclose(features.std(0), 1, atol=1e-3)


def test_the_result_depends_on_the_seed_alone(trained, corpus):
    torch.manual_seed(123)
    encoder, _, _, _ = train(corpus)
    assert all(
        torch.equal(one, other) for one, other in zip(encoder.parameters(), trained[1].parameters(), strict=True)
    )


def test_transformers_reads_the_tokenizer_as_we_do(trained):
    from transformers import AutoTokenizer

    files = trained[0]
    texts = ["Fever . LACTATE high", "unknownword, fever"]
    plain = AutoTokenizer.from_pretrained(files.folder, local_files_only=True)
    ours = tokenize(files, texts, max_tokens=32)
    theirs = plain(texts, padding=True, return_tensors="np")
    assert np.array_equal(theirs["input_ids"], ours.input_ids)
    assert np.array_equal(theirs["attention_mask"], ours.attention_mask)


def test_unseen_words_are_spelt_and_extra_words_are_whole():
    tokenizer = build_tokenizer(["fever fever rare"], ["sodium"])
    assert tokenizer.encode("Fever").tokens == ["[CLS]", "fever", "[SEP]"]
    assert tokenizer.encode("sodium").tokens == ["[CLS]", "sodium", "[SEP]"]
    assert tokenizer.encode("rare").tokens == ["[CLS]", "r", "##a", "##r", "##e", "[SEP]"]
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
