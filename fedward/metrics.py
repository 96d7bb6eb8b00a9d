"""How well a model ranks patients and how honest its probabilities are, with the uncertainty of both.

Labels ``y`` are 0 or 1, ``p`` are probabilities in [0, 1] (ranking metrics take any finite score);
both are one-dimensional, one entry per patient. A metric that the data do not define (one class
only, no patients) is ``None``, never a number.

Two forms exist. On one machine the metrics read predictions directly. Between hospitals only a
:func:`score_histogram` travels, as a segment of the masked vector, and the coordinator reads the
pooled AUROC from the sum with :func:`auroc_from_histogram`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedward.errors import DataError

Array: TypeAlias = NDArray[Any]
Interval: TypeAlias = tuple[float, float]

HISTOGRAM_BINS: Final = 16
"""Every cell carries its own noise, so more bins cost a noised AUROC more than coarse ties do."""

HISTOGRAM_LOGIT_RANGE: Final = 4.0
"""Inner histogram edges span the logits -4 ... 4, that is probabilities 0.018 ... 0.982."""


@dataclass(frozen=True)
class CalibrationBin:
    """Patients whose predicted probability lies in [low, high); the last bin includes 1.

    Attributes:
        n: patients in the bin.
        predicted: their mean predicted probability.
        observed: the fraction of them with the outcome.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float


def _checked(y: Array, p: Array, *, probabilities: bool = False) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    labels, scores = np.asarray(y), np.asarray(p, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise DataError(
            f"Labels of shape {labels.shape} cannot be scored against shape {scores.shape}.", code="FW-DATA-090"
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError("A label is neither 0 nor 1.", code="FW-DATA-090")
    if not np.isfinite(scores).all():
        raise DataError("A prediction is not a finite number.", code="FW-DATA-090")
    if probabilities and ((scores < 0) | (scores > 1)).any():
        raise DataError("A predicted probability lies outside [0, 1].", code="FW-DATA-090")
    return labels.astype(bool), scores


def _concordance(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float]:
    """Returns (pairs in the right order, all pairs); a tie is half a pair (Mann-Whitney U)."""
    _, level = np.unique(scores, return_inverse=True)
    levels = int(level.max()) + 1 if level.size else 0
    positives = np.bincount(level[labels], minlength=levels).astype(np.float64)
    negatives = np.bincount(level[~labels], minlength=levels).astype(np.float64)
    return _concordance_of_counts(positives, negatives), float(positives.sum() * negatives.sum())


def _concordance_of_counts(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    below = np.cumsum(negatives) - negatives
    return float(np.sum(positives * (below + 0.5 * negatives)))


def auroc(y: Array, p: Array) -> float | None:
    """Probability that a random positive scores above a random negative, ties counted half.

    Computed from counts per distinct score rather than by ``sklearn.metrics.roc_auc_score``, which
    it equals: the bootstrap calls it thousands of times per report.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together.
    """
    right, pairs = _concordance(*_checked(y, p))
    return right / pairs if pairs else None


def stratified_auroc(y: Array, p: Array, groups: Array) -> float | None:
    """AUROC over pairs of patients *of the same hospital* only.

    Pooling scores of several hospitals would also reward a model for knowing which hospital has the
    sicker patients; no clinician ever compares such a pair.

    Args:
        y: labels, shape [n].
        p: scores, shape [n].
        groups: hospital of each patient, shape [n], any comparable type.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together.
    """
    labels, scores = _checked(y, p)
    hospitals = np.asarray(groups)
    if hospitals.shape != labels.shape:
        raise DataError(
            f"Groups of shape {hospitals.shape} do not match labels of shape {labels.shape}.", code="FW-DATA-090"
        )
    right = pairs = 0.0
    for hospital in np.unique(hospitals):
        rows = hospitals == hospital
        right_here, pairs_here = _concordance(labels[rows], scores[rows])
        right, pairs = right + right_here, pairs + pairs_here
    return right / pairs if pairs else None


def auprc(y: Array, p: Array) -> float | None:
    """Average precision (step-wise area under the precision-recall curve); None without positives.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together.
    """
    labels, scores = _checked(y, p)
    if not labels.any():
        return None
    from sklearn.metrics import average_precision_score  # imported here: it costs a coordinator a second

    return float(average_precision_score(labels, scores))


def brier(y: Array, p: Array) -> float | None:
    """Mean squared distance between probability and outcome (Brier 1950); None without patients.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together or a probability is outside [0, 1].
    """
    labels, scores = _checked(y, p, probabilities=True)
    return float(np.mean((scores - labels) ** 2)) if labels.size else None


def calibration_curve(y: Array, p: Array, *, bins: int = 15) -> list[CalibrationBin]:
    """Compares predicted with observed risk in ``bins`` equal-width bins; empty bins are left out.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together or a probability is outside [0, 1].
    """
    labels, scores = _checked(y, p, probabilities=True)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.searchsorted(edges[1:-1], scores, side="right")
    curve = []
    for k in np.unique(index):
        rows = index == k
        predicted, observed = float(scores[rows].mean()), float(labels[rows].mean())
        curve.append(CalibrationBin(float(edges[k]), float(edges[k + 1]), int(rows.sum()), predicted, observed))
    return curve


def ece(y: Array, p: Array, *, bins: int = 15) -> float | None:
    """Expected calibration error (Naeini et al. 2015): patient-weighted mean of |observed - predicted| over bins.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together or a probability is outside [0, 1].
    """
    curve = calibration_curve(y, p, bins=bins)
    patients = sum(each.n for each in curve)
    return sum(each.n * abs(each.observed - each.predicted) for each in curve) / patients if patients else None


def bootstrap_interval(
    metric: Callable[..., float | None], *columns: Array, n: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """Percentile bootstrap interval of ``metric(*columns)`` over patients (Efron 1979).

    Args:
        metric: for example :func:`auroc` with columns ``y, p`` or :func:`stratified_auroc` with
            columns ``y, p, groups``.
        columns: arrays with one row per patient; the same rows are drawn from all.
        n: number of resamples.
        seed: of the resampling only; the interval is a pure function of its arguments.
        level: coverage.

    Returns:
        (low, high), or None if the metric is undefined on the columns themselves or on more than
        half of the resamples (then the interval would describe a lucky minority).

    Raises:
        DataError: FW-DATA-090, the columns have unequal lengths.
    """
    arrays = [np.asarray(column) for column in columns]
    rows = len(arrays[0])
    if any(len(array) != rows for array in arrays):
        raise DataError("The columns of a bootstrap have unequal lengths.", code="FW-DATA-090")
    if metric(*arrays) is None:
        return None
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(0, rows, rows) for _ in range(n))
    values = [value for pick in drawn if (value := metric(*(array[pick] for array in arrays))) is not None]
    if 2 * len(values) < n:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def histogram_edges(bins: int = HISTOGRAM_BINS) -> NDArray[np.float64]:
    """The ``bins - 1`` inner edges, equally spaced in logits: public constants, never fitted to data."""
    logits = np.linspace(-HISTOGRAM_LOGIT_RANGE, HISTOGRAM_LOGIT_RANGE, bins - 1)
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float64)


def score_histogram(y: Array, p: Array, *, bins: int = HISTOGRAM_BINS) -> NDArray[np.int64]:
    """Counts patients by label and predicted probability, shape [2, bins]; row 1 holds the positives.

    One patient adds exactly 1 to one cell: L2 sensitivity 1 under add-or-remove-one-patient.

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together or a probability is outside [0, 1].
    """
    labels, scores = _checked(y, p, probabilities=True)
    index = np.searchsorted(histogram_edges(bins), scores, side="right")
    return np.stack([np.bincount(index[rows], minlength=bins) for rows in (~labels, labels)]).astype(np.int64)


def auroc_from_histogram(histogram: Array) -> float | None:
    """AUROC of a (possibly noised) sum of :func:`score_histogram`, shape [2, bins].

    Patients in one bin count as ties, and pairs run across hospitals: it is the pooled AUROC, not
    the stratified one. Negative noisy cells enter as they are. Clipping them to zero would add
    phantom patients spread evenly over both classes and pull every noised AUROC towards 0.5; the
    independent noise of the two rows leaves the unclipped estimate without that bias.

    Returns:
        A number in [0, 1], or None if a class is empty or drowned in noise (its sum is not positive).

    Raises:
        DataError: FW-DATA-090, not of shape [2, bins], or not finite.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != 2 or not np.isfinite(counts).all():
        raise DataError("A score histogram must be finite and have two rows.", code="FW-DATA-090")
    negatives, positives = counts
    if negatives.sum() <= 0 or positives.sum() <= 0:
        return None
    ratio = _concordance_of_counts(positives, negatives) / float(positives.sum() * negatives.sum())
    return min(1.0, max(0.0, ratio))


def scorecard(y: Array, p: Array, *, seed: int = 0) -> dict[str, Any]:
    """Everything ``fedward evaluate`` says about predictions on one machine, as JSON-ready values.

    Args:
        y: labels, shape [n].
        p: predicted probabilities, shape [n].
        seed: of the bootstrap.

    Returns:
        Keys ``n``, ``positives`` (counts); ``auroc``, ``auroc_interval`` (95 %, two numbers),
        ``auprc``, ``brier``, ``ece`` (None where undefined); ``calibration`` (a list of
        :class:`CalibrationBin` as mappings).

    Raises:
        DataError: FW-DATA-090, the arrays do not fit together or a probability is outside [0, 1].
    """
    interval = bootstrap_interval(auroc, y, p, seed=seed)
    return {
        "n": len(y),
        "positives": int(np.sum(y)),
        "auroc": auroc(y, p),
        "auroc_interval": None if interval is None else list(interval),
        "auprc": auprc(y, p),
        "brier": brier(y, p),
        "ece": ece(y, p),
        "calibration": [vars(each) for each in calibration_curve(y, p)],
    }
