"""Every metric against scikit-learn, a brute-force definition or a hand-computed case."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.calibration import calibration_curve as sklearn_calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fedward.cli.evaluate import scorecard
from fedward.client.tasks import local_task
from fedward.measures import Outcomes, bootstrap_interval
from fedward.measures.auroc import Auroc
from fedward.measures.calibration import (
    Brier,
    CalibrationError,
    CalibrationIntercept,
    CalibrationSlope,
    ObservedOverExpected,
    calibration_curve,
)
from fedward.measures.histogram import BINS, middles
from fedward.measures.histogram import rows as histogram_rows
from fedward.measures.log_loss import LogLoss
from fedward.measures.precision_recall import Auprc
from tests.codes import raises

AUROC = Auroc()


def of(y, p, groups=None, units=None) -> Outcomes:
    y, p = np.asarray(y), np.asarray(p, np.float64)
    return Outcomes(np.arange(len(y)) if units is None else np.asarray(units), y, p, np.zeros(len(y)), groups)


def auroc(y, p, groups=None):
    return AUROC.local(of(y, p, groups))


def summed(y, p):
    """The flat histogram that hospitals would add up."""
    return AUROC.contributions(of(y, p))["histogram"].sum(axis=0)


def auroc_of(cells):
    return AUROC.of_sum({"histogram": np.asarray(cells, np.float64).ravel()})


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=n) * 1.5 - 1.2
    p = np.round(1 / (1 + np.exp(-logits)), 2)  # rounding makes ties
    return (generator.random(n) < p).astype(int), p


def pairwise_auroc(y, p):
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    return sum(pairs) / len(pairs)


@given(
    st.integers(2, 60).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.int64, n, elements=st.integers(0, 1)),
            arrays.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])),
        )
    )
)
def test_auroc_is_the_fraction_of_ordered_pairs(case):
    y, p = case
    if len(set(y)) < 2:
        assert auroc(y, p) is None
    else:
        assert auroc(y, p) == pytest.approx(pairwise_auroc(y, p), abs=1e-12)


def test_probability_metrics_equal_sklearn():
    y, p = draw(700)
    assert auroc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert Auprc().local(of(y, p)) == pytest.approx(average_precision_score(y, p), abs=1e-12)
    assert Brier().local(of(y, p)) == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    ours = calibration_curve(of(y, np.minimum(1.0, p + 1e-9)), bins=10)  # sklearn closes bins on the other side
    theirs = sklearn_calibration_curve(y, p + 1e-9, n_bins=10)
    assert [each.observed for each in ours] == pytest.approx(list(theirs[0]))
    assert [each.predicted for each in ours] == pytest.approx(list(theirs[1]))


def test_calibration_by_hand():
    y = np.array([0, 0, 1, 1, 1])
    p = np.array([0.05, 0.15, 0.15, 0.95, 1.0])
    first, second, last = calibration_curve(of(y, p), bins=10)
    assert (first.low, first.n, first.observed) == (0.0, 1, 0.0)
    assert (second.n, second.predicted, second.observed) == (2, pytest.approx(0.15), 0.5)
    assert (last.high, last.n, last.predicted) == (1.0, 2, pytest.approx(0.975))
    assert sum(b.n * abs(b.observed - b.predicted) for b in calibration_curve(of(y, p), bins=10)) / 5 == pytest.approx(
        (1 * 0.05 + 2 * 0.35 + 2 * 0.025) / 5
    )


def test_a_calibrated_model_has_small_ece_and_a_shifted_one_does_not():
    y, p = draw(20_000)
    assert CalibrationError().local(of(y, p)) < 0.02
    assert CalibrationError().local(of(y, np.minimum(1.0, p + 0.2))) > 0.15


def test_stratified_auroc_ignores_which_hospital_has_sicker_patients():
    y, p = draw(400, seed=1)
    hospital = np.repeat(["a", "b"], 200)
    shifted = p + (hospital == "b") * 10.0  # one hospital's scores all above the other's
    assert auroc(y, shifted, hospital) == pytest.approx(auroc(y, p, hospital))
    right = pairs = 0.0
    for name in "ab":
        rows = hospital == name
        count = (y[rows] == 1).sum() * (y[rows] == 0).sum()
        right, pairs = right + pairwise_auroc(y[rows], p[rows]) * count, pairs + count
    assert auroc(y, p, hospital) == pytest.approx(right / pairs)


def test_a_hospital_with_one_class_adds_no_pairs():
    y = np.array([0, 1, 1, 1])
    p = np.array([0.1, 0.9, 0.0, 0.0])
    assert auroc(y, p, np.array(["a", "a", "b", "b"])) == 1.0
    assert auroc(y, p, np.array(["a", "b", "b", "b"])) is None


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    truth = 0.7602  # P(N(1,1) > N(0,1)) = Phi(1/sqrt 2)
    hits = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        y = np.arange(200) % 2
        low, high = bootstrap_interval(AUROC, of(y, generator.normal(size=200) + y), n=200, seed=seed)
        hits += low <= truth <= high
    assert 51 <= hits <= 60


def test_bootstrap_is_reproducible_and_passes_groups_to_the_metric():
    y, p = draw(200)
    groups = np.arange(200) % 3
    first = bootstrap_interval(AUROC, of(y, p, groups), n=50, seed=3)
    assert first == bootstrap_interval(AUROC, of(y, p, groups), n=50, seed=3)
    assert first != bootstrap_interval(AUROC, of(y, p, groups), n=50, seed=4)
    assert first[0] < auroc(y, p, groups) < first[1]


def test_bootstrap_refuses_to_describe_a_lucky_minority():
    y = np.zeros(40, dtype=int)
    assert bootstrap_interval(AUROC, of(y, np.linspace(0, 1, 40))) is None
    # Only the pair (0, 1) counts, and 57 % of the resamples miss one of the two.
    y, p, groups = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3]), np.array(["a", "a", "b", "b"])
    assert auroc(y, p, groups) == 1.0
    assert bootstrap_interval(AUROC, of(y, p, groups)) is None


def test_one_record_changes_one_cell_of_the_histogram_by_one():
    y, p = draw(300)
    change = summed(y, p) - summed(y[:-1], p[:-1])
    assert change.sum() == np.abs(change).sum() == 1
    assert change.shape == (2 * BINS,)
    assert summed(y, p)[BINS:].sum() == y.sum()


def test_probabilities_of_zero_and_one_have_a_bin():
    cells = histogram_rows(np.array([False, True]), np.array([0.0, 1.0]), bins=5)
    assert cells.tolist() == [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]


def test_histograms_add_up_and_give_the_pooled_auroc():
    y, p = draw(3000)
    parts = sum(summed(y[k::3], p[k::3]) for k in range(3))
    assert np.array_equal(parts, summed(y, p))
    assert auroc_of(parts) == pytest.approx(auroc(y, p), abs=0.01)


def test_the_loss_is_read_from_the_same_histogram():
    y, p = draw(3000)
    p = np.clip(p, 0.03, 0.97)
    exact = float(-np.where(y == 1, np.log(p), np.log1p(-p)).mean())
    assert LogLoss().of_sum({"histogram": summed(y, p)}) == pytest.approx(exact, abs=0.02)


def test_noise_does_not_pull_the_histogram_auroc_towards_one_half():
    y, p = draw(3000)
    cells = summed(y, p)
    exact = auroc_of(cells)
    generator = np.random.default_rng(5)
    noised = [auroc_of(cells + generator.normal(size=cells.shape) * 6) for _ in range(400)]
    assert np.mean(noised) == pytest.approx(exact, abs=0.004)


def test_a_histogram_without_a_class_or_drowned_in_noise_has_no_auroc():
    assert auroc_of(np.array([[3, 4], [0, 0]])) is None
    assert auroc_of(np.array([[3.0, 4.0], [1.0, -2.0]])) is None
    assert auroc_of(np.array([[5.0, -1.0], [-9.0, 90.0]])) == 1.0


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 1], [0.5]),
        ([0, 2], [0.5, 0.5]),
        ([0, 1], [0.5, float("nan")]),
        ([[0, 1]], [[0.5, 0.5]]),
    ],
)
def test_input_that_cannot_be_scored_is_refused(y, p):
    for kind in (Auroc, Auprc, Brier, CalibrationError):
        with raises("FW-DATA-090"):
            kind().local(of(y, p))
    with raises("FW-DATA-090"):
        Auroc().contributions(of(y, p))


def test_probability_measures_refuse_scores():
    with raises("FW-DATA-090", match="outside"):
        Brier().local(of([0, 1], [-3.0, 2.0]))


def card_of(y, p):
    return scorecard(local_task("mortality"), of(y, p))


def test_scorecard_is_json_ready_and_honest_about_what_is_undefined():
    y, p = draw(300)
    card = card_of(y, p)
    assert json.loads(json.dumps(card)) == card
    assert card["auroc_interval"][0] < card["auroc"] < card["auroc_interval"][1]
    assert sum(each["n"] for each in card["calibration"]) == card["n"] == 300
    empty = card_of(np.array([], dtype=int), np.array([]))
    assert empty["n"] == 0
    assert [empty[key] for key in ("auroc", "auroc_interval", "auprc", "brier", "ece")] == [None] * 5
    one_class = card_of(np.zeros(5, dtype=int), np.linspace(0, 1, 5))
    assert one_class["auroc"] is None
    assert one_class["auprc"] is None
    assert one_class["brier"] is not None


CALIBRATION = ObservedOverExpected(), CalibrationSlope(), CalibrationIntercept()


def miscalibrated(*, slope: float, intercept: float, n: int = 20_000):
    """Outcomes whose true logit is ``intercept + slope * logit`` of the predicted risk, and these risks."""
    generator = np.random.default_rng(1)
    logits = np.clip(generator.normal(size=n) - 1.0, -3.9, 3.9)
    truth = 1 / (1 + np.exp(-(intercept + slope * logits)))
    return (generator.random(n) < truth).astype(int), 1 / (1 + np.exp(-logits))


def test_slope_and_intercept_are_those_of_the_regression_on_logits():
    y, p = miscalibrated(slope=0.5, intercept=0.7, n=3_000)
    logits = np.log(p / (1 - p))
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], y)
    assert CalibrationSlope().local(of(y, p)) == pytest.approx(float(theirs.coef_[0, 0]), abs=1e-4)
    shift = CalibrationIntercept().local(of(y, p))
    assert (1 / (1 + np.exp(-(logits + shift)))).sum() == pytest.approx(y.sum())  # the score equation of slope one
    assert ObservedOverExpected().local(of(y, p)) == pytest.approx(y.sum() / p.sum())


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 0.0), (1.5, -1.0), (1.0, 1.0)])
def test_calibration_in_the_sum_is_about_that_of_the_records(slope, intercept):
    """Sixteen bins cost a few hundredths."""
    y, p = miscalibrated(slope=slope, intercept=intercept)
    sums = {"histogram": summed(y, p)}
    for measure in CALIBRATION:
        assert measure.of_sum(sums) == pytest.approx(measure.local(of(y, p)), abs=0.06), measure.name


def test_calibration_where_the_sum_does_not_determine_it():
    nobody, negative = np.zeros(2 * BINS), np.concatenate([np.full(BINS, -3.0), np.full(BINS, 2.0)])
    only = np.concatenate([np.arange(BINS), np.zeros(BINS)])  # nobody has the outcome
    apart = summed([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])  # a threshold tells all of them: the slope has no end
    for measure in CALIBRATION:
        assert measure.of_sum({"histogram": nobody}) is None, measure.name
        assert measure.of_sum({"histogram": negative}) is None, measure.name
    assert ObservedOverExpected().of_sum({"histogram": only}) == 0
    assert CalibrationIntercept().of_sum({"histogram": only}) is None
    assert CalibrationSlope().of_sum({"histogram": apart}) is None
    assert CalibrationSlope().local(of([0, 0, 1, 1], [0.0, 0.2, 0.8, 1.0])) is None


@given(arrays.arrays(np.float64, 2 * BINS, elements=st.floats(-50, 500)))
def test_a_noised_histogram_never_breaks_calibration(cells):
    for measure in CALIBRATION:
        value = measure.of_sum({"histogram": cells})
        assert value is None or np.isfinite(value)


def test_too_high_and_too_low_are_both_worse():
    measure = ObservedOverExpected()
    assert measure.improves(1.1, 1.5) == pytest.approx(0.4)
    assert measure.improves(1.1, 0.8) == pytest.approx(0.1)
    assert measure.improves(2.0, 1.1) == pytest.approx(-0.9)
    assert CalibrationIntercept().improves(-0.1, 0.5) == pytest.approx(0.4)


def test_the_risk_of_a_bin_is_the_same_on_every_machine():
    """Nine digits are far from where any C library's exponential would round to another one."""
    for risk in 1e9 / (1.0 + np.exp(-middles(BINS))):
        assert abs(risk % 1 - 0.5) > 1e-3
