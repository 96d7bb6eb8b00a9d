"""How distinguishable two neighbouring inputs are, as the mu of the Gaussian trade-off function.

A mechanism is mu-Gaussian private (Dong, Roth and Su 2022, definition 2.6) if telling its outputs on two neighbouring
inputs apart is at least as hard as telling N(0, 1) from N(mu, 1): every test with false positive rate a and false
negative rate b has Phi^-1(1 - a) - Phi^-1(b) <= mu. Measured error rates thus bound mu from below (Nasr et al. 2023,
"Tight auditing", section 4). The (epsilon, delta) form of the same errors is looser: it does not notice half the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fedward.privacy.audit.intervals import clopper_pearson

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Errors of one fixed test.

    Attributes:
        false_positives: outputs without the patient that were taken for outputs with.
        without: outputs without the patient.
        false_negatives: outputs with the patient that were taken for outputs without.
        with_patient: outputs with the patient.
    """

    false_positives: int
    without: int
    false_negatives: int
    with_patient: int


@dataclass(frozen=True)
class Threshold:
    """The test "the patient took part if ``sign * score > at``"."""

    at: float
    sign: float

    def errors(self, without: Scores, with_patient: Scores) -> Errors:
        """Applies the test to scores ``[n]`` of outputs without and ``[m]`` with the patient."""
        accused = self.sign * without > self.at
        missed = self.sign * with_patient <= self.at
        return Errors(int(accused.sum()), len(without), int(missed.sum()), len(with_patient))


def mu_lower_bound(errors: Errors, *, confidence: float) -> float:
    """A mu that the mechanism's true mu exceeds with at least this confidence; 0 if nothing was found.

    Both error rates are replaced by their Clopper-Pearson upper limits, each at ``(1 - confidence) / 2``.

    Args:
        errors: of a test that was fixed before these outputs were drawn.
        confidence: in (0, 1).
    """
    _, false_positive = clopper_pearson(errors.false_positives, errors.without, confidence=confidence)
    _, false_negative = clopper_pearson(errors.false_negatives, errors.with_patient, confidence=confidence)
    if false_positive + false_negative >= 1:
        return 0.0
    return float(-ndtri(false_positive) - ndtri(false_negative))


def choose_threshold(without: Scores, with_patient: Scores) -> Threshold:
    """The test halfway between the means of pilot scores, which must not be used for the bound itself.

    It is the best one for two Gaussians of equal width, and separates scores that carry no noise. Choosing among
    several thresholds by their pilot errors was tried and did worse: the pilot often happens to like a poor one.

    Args:
        without: pilot scores ``[n]`` of outputs without the patient.
        with_patient: pilot scores ``[m]`` of outputs with the patient.
    """
    low, high = float(without.mean()), float(with_patient.mean())
    sign = 1.0 if high >= low else -1.0
    return Threshold(sign * (low + high) / 2, sign)
