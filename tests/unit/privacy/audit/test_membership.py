"""Membership inference: curve, low false positive rates and the offline likelihood ratio."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedward.privacy.audit import offline_lira, roc


def scores(shift: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.Generator(np.random.Philox(seed))
    return random.normal(shift, 1, n), random.normal(size=n)


def test_auc_is_that_of_scikit_learn_also_with_ties():
    members, others = (np.round(part, 1) for part in scores(0.5, 300, 1))
    expected = roc_auc_score(np.r_[np.ones(300), np.zeros(300)], np.r_[members, others])
    assert roc(members, others).auc == pytest.approx(expected, abs=1e-12)


def test_intervals_of_auc_cover_the_truth():
    truth, runs = norm.cdf(0.5 / np.sqrt(2)), 300
    covered = 0
    for seed in range(runs):
        low, high = roc(*scores(0.5, 100, seed)).interval
        covered += low <= truth <= high
    assert covered >= 0.91 * runs


def test_true_positives_at_a_low_rate_of_false_ones():
    found = roc(*scores(2.0, 20_000, 2))
    for point in found.low:
        truth = norm.sf(norm.isf(point.at_most) - 2.0)
        assert point.false_positive_rate == pytest.approx(point.at_most, abs=1e-9)
        assert point.true_positive_rate == pytest.approx(truth, abs=0.03)
        assert point.interval[0] < point.true_positive_rate < point.interval[1]


def test_with_few_others_nobody_may_be_accused_wrongly():
    members, others = np.array([0.0, 2.0, 3.0]), np.array([1.0, 0.5])
    (point,) = roc(members, others, rates=(0.001,)).low
    assert (point.false_positive_rate, point.true_positive_rate) == (0.0, 2 / 3)


def test_equal_scores_accuse_nobody():
    (point,) = roc(np.zeros(5), np.zeros(200), rates=(0.01,)).low
    assert (point.false_positive_rate, point.true_positive_rate) == (0.0, 0.0)


def test_reference_models_take_the_difficulty_of_a_record_away():
    random = np.random.Generator(np.random.Philox(4))
    difficulty, member = random.normal(0, 3, 400), np.arange(400) < 200
    target = difficulty + 1.0 * member + random.normal(0, 0.3, 400)
    references = difficulty + random.normal(0, 0.3, (8, 400))
    trained = np.argsort(random.random((8, 400)), axis=0) < 4
    plain = roc(target[member], target[~member]).auc
    calibrated = offline_lira(target, references + 1.0 * trained, trained)
    assert roc(calibrated[member], calibrated[~member]).auc > 0.95 > 0.7 > plain


def test_a_record_that_every_reference_saw_is_refused():
    with pytest.raises(ValueError, match="reference model"):
        offline_lira(np.zeros(2), np.zeros((2, 2)), np.array([[True, False], [True, True]]))


def test_too_few_people_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        roc(np.zeros(1), np.zeros(5))
