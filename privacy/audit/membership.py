"""Membership inference: how well scores tell training patients from others, above all where accusations are rare.

An attack that is right on average says little; one that is sure about a few people is a breach. So the true positive
rate is reported at low false positive rates, with intervals (Carlini et al. 2022, section IV).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from fedward.privacy.audit.intervals import clopper_pearson

Scores = NDArray[np.float64]
LOW_RATES = (0.001, 0.01)


@dataclass(frozen=True)
class LowRate:
    """How many training patients an attack finds while it wrongly accuses at most a small share of the others.

    Attributes:
        at_most: the false positive rate that was asked for.
        false_positive_rate: the one reached on these scores, at most ``at_most``.
        true_positive_rate: share of training patients above the same threshold.
        interval: Clopper-Pearson interval of ``true_positive_rate``.
    """

    at_most: float
    false_positive_rate: float
    true_positive_rate: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Roc:
    """An attack's whole curve in one number, and its left end.

    Attributes:
        auc: probability that a training patient scores above another; 0.5 is guessing.
        interval: of ``auc``, from DeLong's variance.
        low: the curve at small false positive rates.
    """

    auc: float
    interval: tuple[float, float]
    low: tuple[LowRate, ...]


def roc(members: Scores, others: Scores, *, rates: Sequence[float] = LOW_RATES, confidence: float = 0.95) -> Roc:
    """Scores an attack.

    Args:
        members: scores ``[m]`` of training patients, higher for "was trained on".
        others: scores ``[n]`` of patients who were not trained on.
        rates: false positive rates of interest; below 1 / n the attack may accuse nobody wrongly at all.
        confidence: of all intervals.
    """
    if len(members) < 2 or len(others) < 2 or not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise ValueError("an attack is scored on at least two members and two others with finite scores")
    auc, interval = _auc(members, others, confidence)
    return Roc(auc, interval, tuple(_low_rate(members, others, rate, confidence) for rate in rates))


def offline_lira(target: Scores, references: Scores, trained: NDArray[np.bool_]) -> Scores:
    """The likelihood ratio attack with reference models that were not trained on the record (Carlini et al. 2022, VI).

    With few reference models one variance for all records is better than an estimate each, and does not change the
    order of the scores; what remains is the distance from the mean of the models that never saw the record.

    Args:
        target: logit confidence ``[n]`` of the true outcome under the attacked model.
        references: the same under each reference model, ``[k, n]``.
        trained: whether the reference model was trained on the record, bool ``[k, n]``.

    Returns:
        Scores ``[n]``, higher for "was trained on".
    """
    if references.shape != trained.shape or references.shape[1:] != target.shape or trained.all(axis=0).any():
        raise ValueError("every record needs a reference model that was not trained on it")
    seen_by = (~trained).sum(axis=0)
    expected = np.where(trained, 0.0, references).sum(axis=0) / seen_by
    return np.asarray(target - expected, dtype=np.float64)


def _low_rate(members: Scores, others: Scores, rate: float, confidence: float) -> LowRate:
    allowed = math.floor(rate * len(others) + 1e-9)
    # Everything strictly above the (allowed + 1)-th highest score of the others is accused.
    threshold = np.sort(others)[len(others) - 1 - min(allowed, len(others) - 1)]
    found = int((members > threshold).sum())
    return LowRate(
        at_most=rate,
        false_positive_rate=float((others > threshold).mean()),
        true_positive_rate=found / len(members),
        interval=clopper_pearson(found, len(members), confidence=confidence),
    )


def _auc(members: Scores, others: Scores, confidence: float) -> tuple[float, tuple[float, float]]:
    """DeLong et al. 1988, by ranks (Sun and Xu 2014)."""
    m, n = len(members), len(others)
    joint = rankdata(np.concatenate([members, others]))
    beaten = (joint[:m] - rankdata(members)) / n
    beating = 1.0 - (joint[m:] - rankdata(others)) / m
    auc = float(beaten.mean())
    spread = math.sqrt(beaten.var(ddof=1) / m + beating.var(ddof=1) / n)
    reach = float(-ndtri((1 - confidence) / 2)) * spread
    return auc, (max(0.0, auc - reach), min(1.0, auc + reach))
