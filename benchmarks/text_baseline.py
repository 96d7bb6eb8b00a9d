"""Logistic regression on word counts of the same texts and the same split: what a simple central model reaches."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from fedward.client.models.registry import resolve
from fedward.measures.auroc import within
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import load_scenario
from fedward.simulations.parties import make_sites


def logistic_regression(scenario: str, seed: int) -> float:
    """AUROC within hospitals of a model trained on everybody's training patients (C fixed, not tuned)."""
    chosen = load_scenario(scenario).model_copy(update={"seed": seed})
    plan = make_plan(chosen, resolve(chosen.model))
    sites = make_sites(chosen, plan)
    train = [example for site in sites for example in site.train]
    evaluation = [(index, example) for index, site in enumerate(sites) for example in site.evaluation]
    words = CountVectorizer(ngram_range=(1, 2), min_df=3, binary=True)
    features = words.fit_transform([example.text for example in train])
    model = LogisticRegression(C=0.03, max_iter=2000).fit(features, [example.label for example in train])
    scores = model.predict_proba(words.transform([example.text for _, example in evaluation]))[:, 1]
    labels = np.array([bool(example.label) for _, example in evaluation])
    value = within(labels, scores, np.array([index for index, _ in evaluation]))
    if value is None:
        raise ValueError("the split has one class only")
    return value
