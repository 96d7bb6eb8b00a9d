"""What a plan puts around any strategy: the server optimizers, and the holdout gate.

A server optimizer goes from the averaged sum of a round to a step of the state, the same bits on every machine. What is
averaged is the deltas of local training (Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2, and Hsu et
al. 2019, https://arxiv.org/abs/1909.06335, for FedAvgM) or, under ``secure-grad``, one clipped gradient sum of each
hospital. Every step is a sequence of elementwise float64 operations that IEEE 754 rounds exactly (+, -, *, /, sqrt),
one ufunc at a time, so coordinator and hospitals compute identical bytes and hospitals can check the coordinator by
repeating it.

In a private run the sum is noised before it is seen: whatever a rule remembers is post-processing and costs no privacy.
But the adaptive rules divide by the size of a coordinate's movement, noise included: they move one without a signal
about as far as one with a weak signal. The stabiliser limits that.

The holdout gate takes back an adapter that scores clearly worse than the best one so far. Secure aggregation hides
whether one hospital's delta has spoilt the sum. What shows is the result: the hospitals score every candidate on
records that nobody trains on, and the statistics of those scores are a segment of the same secure sum. Where the plan's
measure is worse than the best one released by more than the plan's tolerance, the candidate and the sum trained from it
are dropped, and the run goes on from the best adapter. The decision is made from released sums alone, so it costs no
privacy, and every hospital repeats it bit for bit, in exact rational arithmetic. The price is in utility: noise moves a
measure too, and the best of several noised values lies beyond the truth, so a tolerance must exceed a few standard
deviations of the noise (``docs/around-strategies.md``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import IntegrityError
from fedward.measures import Measure
from fedward.plan import GatePlan, OptimizerPlan, Plan

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
    """The step that the plan's optimizer makes of an averaged sum ``mean``, and the memory after it; float64 ``[P]``.

    The step is added for a delta, subtracted for a gradient. Raises FW-STRATEGY-010 (``memory``, empty before the
    first step, belongs to another adapter or optimizer).
    """
    if mean.shape != (layout.size,):
        raise ValueError("the sum does not fit the adapter layout")
    rule = RULES[rule_of(plan)]
    return rule.step(_settings(plan.optimizer, rule, layout), mean, memory)


def gradient_step(
    plan: Plan, adapter: Vector, memory: Memory, gradient_sum: Values, survivors: int, layout: AdapterLayout
) -> tuple[Vector, Memory]:
    """The next adapter, float32 ``[P]``, and memory from a decoded noisy gradient sum over ``survivors`` hospitals.

    The divisor is their number times the plan's expected batch: public numbers, whoever was sampled.
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
    second_moment = rule.second_moment if given.second_moment is None else given.second_moment
    head = given.learning_rate_head or rule.head or 1.0 - momentum
    lora = given.learning_rate_lora or rule.lora or 1.0 - momentum
    rates = rates_by_tensor(layout, head=head, lora=lora)
    return Settings(rates, momentum, second_moment, given.stabiliser or rule.stabiliser)


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


_HEADER = 2


@dataclass(frozen=True)
class Best:
    """The holdout gate's best candidate so far."""

    score: float  # of its released statistics
    state: Vector  # float32 [P]
    memory: Memory  # of the strategy, when the state was the current one


def judge(
    score: Fraction | None, candidate: Vector, memory: Memory, best: Best | None, *, gate: GatePlan, measure: Measure
) -> Best | None:
    """The best candidate after ``candidate`` was scored, or None if the candidate is to be taken back.

    ``score`` is the exact measure of the candidate's released statistics, None if they do not define it; ``memory`` is
    the strategy's at that state. Returns ``best`` itself if the candidate passed without being better, or has no score.
    The best candidate, scored again after another was taken back, gets its new score: held to an old and lucky one, it
    would fail itself, and every sum that is trained from it.
    """
    upwards = measure.better == "higher" and measure.ideal is None
    worst = measure.lowest if upwards else measure.highest
    undefined = np.finfo(np.float64).max if worst is None else worst
    mine = Best(undefined if score is None else float(score), candidate.copy(), memory.copy())
    if best is None:
        return mine
    if score is None:
        return best
    if mine.state.tobytes() == best.state.tobytes():
        return mine
    ahead = measure.improves(mine.score, best.score)
    if ahead < -gate.tolerance:
        return None
    return mine if ahead > 0 else best


def pack(best: Best | None, memory: Memory) -> Memory:
    """One vector of what gate and strategy remember; empty if neither remembers anything."""
    if best is None:
        return memory if memory.size == 0 else np.concatenate([[0.0, 0.0], memory])
    header = [1.0 + best.memory.size, best.score]
    return np.concatenate([header, best.state.astype(np.float64), best.memory, memory])


def unpack(packed: Memory, size: int) -> tuple[Best | None, Memory]:
    """Reverses :func:`pack` for states of ``size`` entries; raises FW-STRATEGY-011 (packed for another adapter)."""
    if packed.size == 0:
        return None, packed
    if packed.size < _HEADER or not np.isfinite(packed).all():
        raise IntegrityError("The holdout gate's memory cannot be read.", code="FW-STRATEGY-011")
    kept = int(packed[0]) - 1
    if kept < 0:
        return None, packed[_HEADER:]
    start, end = _HEADER + size, _HEADER + size + kept
    if packed.size < end:
        raise IntegrityError("The holdout gate's memory does not fit the adapter.", code="FW-STRATEGY-011")
    return Best(float(packed[1]), packed[_HEADER:start].astype(np.float32), packed[start:end]), packed[end:]
