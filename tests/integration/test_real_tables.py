"""The readers on the openly licensed eICU and MIMIC-III demo tables."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedward.client.data import Example, load_examples, split_patients
from fedward.client.folder import check_folder

pytestmark = pytest.mark.data


def folder(name: str) -> Path:
    return Path(os.environ["FEDWARD_DATA"]) / name


def auroc_of_words(train: list[Example], evaluation: list[Example]) -> float:
    """AUROC of a logistic regression on words and word pairs."""
    words = CountVectorizer(ngram_range=(1, 2), min_df=4, binary=True, token_pattern=r"\S+")
    model = LogisticRegression(C=0.03, max_iter=1000)
    model.fit(words.fit_transform([e.text for e in train]), [e.label for e in train])
    scores = model.decision_function(words.transform([e.text for e in evaluation]))
    return float(roc_auc_score([e.label for e in evaluation], scores))


def test_eicu_counts_and_form() -> None:
    examples = load_examples(folder("eicu-demo"), format="eicu", task="mortality")
    assert len(examples) > 1000
    assert 0.04 < np.mean([e.label for e in examples]) < 0.12
    assert {e.group for e in examples} == {"midwest", "south", "west", "northeast", "unknown"}
    lengths = [len(e.text.split()) for e in examples]
    assert 45 < np.mean(lengths) < 80
    assert max(lengths) < 128
    assert not {"expired", "death", "died", "discharge"} & {word for e in examples for word in e.text.split()}


def test_eicu_text_predicts_mortality() -> None:
    """Mean of 6 splits by patient; about 0.80, single splits vary by 0.03."""
    examples = load_examples(folder("eicu-demo"), format="eicu", task="mortality")
    splits = [split_patients(examples, evaluation_fraction=0.3, salt=str(salt)) for salt in range(6)]
    assert np.mean([auroc_of_words(*sides) for sides in splits]) > 0.75


def test_mimic3_demo_has_the_published_layout() -> None:
    report = check_folder(folder("mimic3-demo"))
    assert report.format == "mimic-iii"
    assert report.rows["PATIENTS"] == 100
    assert report.rows["LABEVENTS"] == 76_074
    assert (report.units, report.records) == (100, 136)
    assert not report.problems
    for task in ("mortality", "los3"):
        examples = load_examples(folder("mimic3-demo"), format="mimic-iii", task=task)
        assert len(examples) > 70
        assert all(e.text.startswith("age ") for e in examples)
