"""Server optimizers: from the averaged sum of a round to a step of the state, the same bits on every machine.

What is averaged is the deltas of local training (Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2, and
Hsu et al. 2019, https://arxiv.org/abs/1909.06335, for FedAvgM) or, under ``secure-grad``, one clipped gradient sum of
each hospital. Every step is a sequence of elementwise float64 operations that IEEE 754 rounds exactly (+, -, *, /,
sqrt), one ufunc at a time, so coordinator and hospitals compute identical bytes and hospitals can check the coordinator
by repeating it.

In a private run the sum is noised before it is seen: whatever a rule remembers is post-processing and costs no privacy.
The noise has the same deviation in every coordinate of a tensor, though, and the adaptive rules divide by the size of a
coordinate's movement, noise included: they move one without a signal about as far as one with a weak signal. The
stabiliser limits that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import IntegrityError
from fedward.plan import OptimizerPlan, Plan

Values = NDArray[np.float64]
Memory = Values
"""What an optimizer carries from round to round, flat; empty before the first step."""

NOTHING: Memory = np.empty(0, np.float64)
HEAD = "head."
"""Tensors of the linear head; they learn at their own rate."""


@dataclass(frozen=True)
class Settings:
    """The numbers of a step: ``rates`` of every entry, float64 ``[P]``, beta 1, beta 2, and tau or Adam's epsilon."""

    rates: Values
    momentum: float
    second_moment: float
    stabiliser: float


Step = Callable[[Settings, Values, Memory], tuple[Values, Memory]]


def pass_on(settings: Settings, mean: Values, memory: Memory) -> tuple[Values, Memory]:
    """The mean as it is (McMahan et al. 2017); nothing is remembered."""
    return mean, _recall(memory, NOTHING)


def heavy_ball(settings: Settings, mean: Values, memory: Memory) -> tuple[Values, Memory]:
    """Momentum (Polyak 1964), on deltas FedAvgM; the memory is the velocity ``[P]``."""
    velocity = _recall(memory, np.zeros(mean.size)) * settings.momentum + mean
    return settings.rates * velocity, velocity


def adam(settings: Settings, mean: Values, memory: Memory) -> tuple[Values, Memory]:
    """Adam (Kingma and Ba 2015, algorithm 1); the memory is step count, first and second moment ``[1 + 2 P]``."""
    size, beta, beta2 = mean.size, settings.momentum, settings.second_moment
    memory = _recall(memory, np.zeros(1 + 2 * size))
    steps = int(memory[0]) + 1
    first = memory[1 : 1 + size] * beta + mean * (1.0 - beta)
    second = memory[1 + size :] * beta2 + mean * mean * (1.0 - beta2)
    scale = np.sqrt(second / (1.0 - _power(beta2, steps))) + settings.stabiliser
    direction = first / (1.0 - _power(beta, steps)) / scale
    return settings.rates * direction, np.concatenate([[float(steps)], first, second])


def adaptive(grown: Callable[[float, Values, Values], Values]) -> Step:
    """A rule of Reddi et al.: ``grown(beta2, v, d^2)`` is its second moment; the memory is both moments ``[2 P]``."""

    def step(settings: Settings, mean: Values, memory: Memory) -> tuple[Values, Memory]:
        beta, tau = settings.momentum, settings.stabiliser
        initial = np.concatenate([np.zeros(mean.size), np.full(mean.size, tau * tau)])
        first, second = np.split(_recall(memory, initial), 2)
        first = first * beta + mean * (1.0 - beta)
        second = grown(settings.second_moment, second, mean * mean)
        return settings.rates * first / (np.sqrt(second) + tau), np.concatenate([first, second])

    return step


@dataclass(frozen=True)
class Rule:
    """One optimizer, and the numbers that it has unless the plan names others.

    A learning rate of None is 1 - momentum, with which the state moves in the long run as far as the mean. The momentum
    of the adaptive rules is Flower's: Adagrad without. FedAvgM's is smaller: a run has about ten rounds, which 0.9
    would spend on getting under way and then overshoot.
    """

    placement: Literal["local", "secure-grad"]  # value of privacy.placement whose sums it is for: deltas, or gradients
    step: Step  # from settings, averaged sum and memory to the step along the sum and the memory after it
    head: float | None = None
    lora: float | None = None
    momentum: float = 0.9  # beta 1
    second_moment: float = 0.99
    stabiliser: float = 1e-3


# The adaptive rules take the rates that local training has by default; Adagrad, whose steps only get shorter, three
# times as much. FedAdam has no bias correction: v starts at tau^2 instead. Yogi's v grows like that of Adam and shrinks
# by an amount that d bounds. Gradients get descent with momentum unless the plan says otherwise: noise misleads Adam.
RULES: dict[str, Rule] = {
    "mean": Rule("local", pass_on),
    "fedavgm": Rule("local", heavy_ball, momentum=0.5),
    "fedadagrad": Rule("local", adaptive(lambda beta2, v, d2: v + d2), 0.3, 0.03, momentum=0.0),
    "fedadam": Rule("local", adaptive(lambda beta2, v, d2: v * beta2 + d2 * (1.0 - beta2)), 0.1, 0.01),
    "fedyogi": Rule("local", adaptive(lambda beta2, v, d2: v - d2 * (1.0 - beta2) * np.sign(v - d2)), 0.1, 0.01),
    "sgd": Rule("secure-grad", heavy_ball, 0.2, 0.1),
    "adam": Rule("secure-grad", adam, 0.2, 0.1, second_moment=0.999, stabiliser=1e-8),
}


def rule_of(plan: Plan) -> str:
    """Name of the plan's rule: the one it names, or that of its placement."""
    return plan.optimizer.rule or ("mean" if plan.privacy.placement == "local" else "sgd")


def server_step(plan: Plan, mean: Values, memory: Memory, layout: AdapterLayout) -> tuple[Values, Memory]:
    """The step that the plan's optimizer makes of an averaged sum: added for a delta, subtracted for a gradient.

    ``mean`` is the averaged sum over the survivors, float64 ``[P]``, ``memory`` that of the step before, empty at the
    first. Returns the step, float64 ``[P]``, and the memory after it. Raises FW-STRATEGY-010 (``memory`` belongs to
    another adapter or optimizer).
    """
    if mean.shape != (layout.size,):
        raise ValueError("the sum does not fit the adapter layout")
    rule = RULES[rule_of(plan)]
    return rule.step(_settings(plan.optimizer, rule, layout), mean, memory)


def gradient_step(
    plan: Plan, adapter: Vector, memory: Memory, gradient_sum: Values, survivors: int, layout: AdapterLayout
) -> tuple[Vector, Memory]:
    """The next adapter, float32 ``[P]``, and memory from a decoded noisy gradient sum over ``survivors`` hospitals.

    The divisor is their number times the plan's expected batch: public numbers, whoever was sampled. Other arguments
    and errors are those of :func:`server_step`.
    """
    if adapter.shape != (layout.size,) or survivors < 1:
        raise ValueError("the sum does not fit the adapter layout")
    step, memory = server_step(plan, gradient_sum / (survivors * plan.privacy.expected_batch), memory, layout)
    return (adapter.astype(np.float64) - step).astype(np.float32), memory


def rates_by_tensor(layout: AdapterLayout, *, head: float, lora: float) -> Values:
    """``head`` for every entry of the linear head and ``lora`` for all others, float64 ``[P]``."""
    return np.concatenate([np.full(t.size, head if t.name.startswith(HEAD) else lora) for t in layout.tensors])


def _settings(given: OptimizerPlan, rule: Rule, layout: AdapterLayout) -> Settings:
    momentum = rule.momentum if given.momentum is None else given.momentum
    return Settings(
        rates=rates_by_tensor(
            layout,
            head=given.learning_rate_head or rule.head or 1.0 - momentum,
            lora=given.learning_rate_lora or rule.lora or 1.0 - momentum,
        ),
        momentum=momentum,
        second_moment=rule.second_moment if given.second_moment is None else given.second_moment,
        stabiliser=given.stabiliser or rule.stabiliser,
    )


def _recall(memory: Memory, initial: Memory) -> Memory:
    if memory.size == 0:
        return initial
    if memory.shape != initial.shape or not np.isfinite(memory).all():
        raise IntegrityError("The server optimizer's memory does not fit the adapter.", code="FW-STRATEGY-010")
    return memory


def _power(base: float, exponent: int) -> float:
    """base^exponent by multiplication: ``pow`` differs between C libraries in its last bit."""
    result = 1.0
    for _ in range(exponent):
        result *= base
    return result
