from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedward.simulations.synthetic import bayes_auroc


@pytest.mark.parametrize("rounding", [1, 2, 12])
def test_equals_the_double_sum_with_ties(rounding: int) -> None:
    eta = np.round(np.random.default_rng(0).random(80) * 0.98 + 0.01, rounding)
    above = (eta[:, None] > eta[None, :]) + 0.5 * (eta[:, None] == eta[None, :])
    pairs = eta[:, None] * (1.0 - eta[None, :])
    np.fill_diagonal(pairs, 0.0)
    assert bayes_auroc(eta) == pytest.approx(float((pairs * above).sum() / pairs.sum()), abs=1e-12)


def test_equals_the_mean_auroc_of_drawn_outcomes() -> None:
    rng = np.random.default_rng(1)
    eta = 1.0 / (1.0 + np.exp(-rng.normal(-1.5, 1.6, 3000)))
    drawn = [roc_auc_score(rng.random(3000) < eta, eta) for _ in range(40)]
    assert bayes_auroc(eta) == pytest.approx(np.mean(drawn), abs=0.005)


def test_known_values() -> None:
    assert bayes_auroc(np.array([0.0, 1.0])) == 1.0
    assert bayes_auroc(np.full(10, 0.3)) == pytest.approx(0.5)


@pytest.mark.parametrize("eta", [[0.5], [0.0, 0.0], [1.0, 1.0], [0.2, 1.1], [-0.1, 0.5]])
def test_impossible_probabilities_are_refused(eta: list[float]) -> None:
    with pytest.raises(ValueError, match=r"probabilities|outcomes"):
        bayes_auroc(np.array(eta))
