"""FedAvgM, FedAdagrad, FedAdam and FedYogi: the averaged delta as a pseudo-gradient of the coordinator's own optimizer.

Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2, and Hsu et al. 2019, https://arxiv.org/abs/1909.06335,
for FedAvgM. As in :mod:`fedward.strategies.optimizers`, every step is a sequence of elementwise float64 operations that
IEEE 754 rounds exactly, so that hospitals repeat it bit for bit.

A delta of a private run is noised before it is sent: what these rules remember of it is post-processing and costs no
privacy. The noise has the same deviation in every coordinate of a tensor, though, and the adaptive rules divide by the
size of a coordinate's movement, noise included: they move one without a signal about as far as one with a weak signal.
``adaptivity`` (tau) limits that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout
from fedward.errors import IntegrityError
from fedward.plan import UpdatePlan
from fedward.strategies.optimizers import Memory, rates_by_tensor

SecondMoment = Callable[[UpdatePlan, NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

RATES = {"fedadagrad": (0.3, 0.03), "fedadam": (0.1, 0.01), "fedyogi": (0.1, 0.01)}
"""Rates of head and LoRA unless the plan says otherwise: those that local training has by default, and three times as
much under Adagrad, whose steps get shorter."""
MOMENTUM = {"fedavgm": 0.5, "fedadagrad": 0.0, "fedadam": 0.9, "fedyogi": 0.9}
"""beta 1 unless the plan says otherwise. That of the adaptive rules is Flower's: Adagrad without momentum. FedAvgM's is
smaller: a run has about ten rounds, which 0.9 would spend on getting under way and then overshoot."""


def server_step(
    update: UpdatePlan, mean: NDArray[np.float64], memory: Memory, layout: AdapterLayout
) -> tuple[NDArray[np.float64], Memory]:
    """What the coordinator adds to the global state for an averaged delta.

    Args:
        update: rule, rates and moments; ``mean`` hands the averaged delta on as it is. FedAvgM's rate is 1 - beta 1
            unless the plan says otherwise: in the long run the state moves as far as the mean would move it.
        mean: averaged delta of the survivors, float64 ``[P]``.
        memory: of the step before; empty at the first.
        layout: which entries belong to the head, which has its own rate under the adaptive rules.

    Returns:
        The step, float64 ``[P]``, and the memory after it: the velocity ``[P]`` of FedAvgM, or first and second moment
        ``[2 P]``.

    Raises:
        IntegrityError: FW-STRATEGY-010, ``memory`` belongs to another adapter or optimizer.
    """
    if mean.shape != (layout.size,):
        raise ValueError("the mean does not fit the adapter layout")
    if update.optimizer == "mean":
        return mean, _recall(memory, np.empty(0))
    beta = MOMENTUM[update.optimizer] if update.momentum is None else update.momentum
    if update.optimizer == "fedavgm":
        velocity = _recall(memory, np.zeros(mean.size)) * beta + mean
        rate = 1.0 - beta if update.learning_rate is None else update.learning_rate
        return velocity * rate, velocity
    head, lora = RATES[update.optimizer]
    rates = rates_by_tensor(layout, head=update.learning_rate_head or head, lora=update.learning_rate_lora or lora)
    first, second = np.split(_recall(memory, _no_moments(update, mean.size)), 2)
    first = first * beta + mean * (1.0 - beta)
    second = SECOND_MOMENTS[update.optimizer](update, second, mean * mean)
    return rates * first / (np.sqrt(second) + update.adaptivity), np.concatenate([first, second])


def adagrad(update: UpdatePlan, second: NDArray[np.float64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """v + d^2: steps only ever get shorter."""
    return second + squared


def adam(update: UpdatePlan, second: NDArray[np.float64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """beta2 v + (1 - beta2) d^2, without the bias correction of Adam: v starts at tau^2 instead."""
    return second * update.second_moment + squared * (1.0 - update.second_moment)


def yogi(update: UpdatePlan, second: NDArray[np.float64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """v - (1 - beta2) d^2 sign(v - d^2): grows like Adam's, shrinks by an amount that d bounds."""
    return second - squared * (1.0 - update.second_moment) * np.sign(second - squared)


SECOND_MOMENTS: dict[str, SecondMoment] = {"fedadagrad": adagrad, "fedadam": adam, "fedyogi": yogi}


def _no_moments(update: UpdatePlan, size: int) -> Memory:
    return np.concatenate([np.zeros(size), np.full(size, update.adaptivity * update.adaptivity)])


def _recall(memory: Memory, initial: Memory) -> Memory:
    if memory.size == 0:
        return initial
    if memory.shape != initial.shape or not np.isfinite(memory).all():
        raise IntegrityError("The server optimizer's memory does not fit the adapter.", code="FW-STRATEGY-010")
    return memory
