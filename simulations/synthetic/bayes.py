"""Best possible scores on synthetic patients, whose true risk is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedward.measures.auroc import Auroc


def bayes_auroc(eta: NDArray[np.float64]) -> float:
    """Returns the expected AUROC of the true probabilities as score, over random outcomes.

    With independent outcomes y_i ~ Bernoulli(eta_i) it is the ratio of expected pair counts::

        sum over i != j of eta_i (1 - eta_j) ([eta_i > eta_j] + [eta_i = eta_j] / 2)
        / sum over i != j of eta_i (1 - eta_j)

    computed in O(n log n) by sorting.

    Args:
        eta: p(y = 1 | x) of each patient, shape [n], n >= 2.

    Raises:
        ValueError: fewer than two patients, or a probability outside [0, 1], or no discordant pair possible.
    """
    values = np.sort(np.asarray(eta, dtype=np.float64))
    if values.size < 2 or values[0] < 0.0 or values[-1] > 1.0:
        raise ValueError("eta needs at least two probabilities")
    survival = np.concatenate([[0.0], np.cumsum(1.0 - values)])
    below = survival[np.searchsorted(values, values, side="left")]
    up_to = survival[np.searchsorted(values, values, side="right")]
    itself = values * (1.0 - values)
    ordered = float(np.sum(values * (below + up_to) / 2.0) - np.sum(itself) / 2.0)
    pairs = float(values.sum() * survival[-1] - itself.sum())
    if pairs <= 0.0:
        raise ValueError("no pair of patients can have different outcomes")
    return ordered / pairs


def pairs_within(etas: Sequence[NDArray[np.float64]]) -> float:
    """:func:`bayes_auroc` over pairs of one hospital, each hospital weighted by its expected discordant pairs."""
    pairs = total = 0.0
    for eta in etas:
        weight = float(eta.sum() * (1.0 - eta).sum() - (eta * (1.0 - eta)).sum())
        pairs += weight * bayes_auroc(eta)
        total += weight
    return pairs / total


BEST_POSSIBLE: Mapping[str, Callable[[Sequence[NDArray[np.float64]]], float]] = {Auroc.name: pairs_within}
"""By measure, where it is known: from the true risks of each hospital's evaluation patients."""
