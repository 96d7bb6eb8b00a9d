"""Server optimizers: from one averaged noisy gradient to the next adapter, the same bits on every machine.

Every step is a sequence of elementwise float64 operations that IEEE 754 rounds exactly (+, -, *, /, sqrt), one ufunc at
a time, so coordinator and hospitals compute identical bytes and hospitals can check the coordinator by repeating it.
The gradient is noised before it is seen: whatever an optimizer remembers is post-processing and costs no privacy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import IntegrityError
from fedward.plan import Plan, ServerPlan

Memory = NDArray[np.float64]
"""What an optimizer carries from round to round, flat; empty before the first step."""

NOTHING: Memory = np.empty(0, np.float64)
HEAD = "head."
"""Tensors of the linear head; they learn at their own rate."""

Rule = Callable[[ServerPlan, NDArray[np.float64], Memory], tuple[NDArray[np.float64], Memory]]


def gradient_step(
    plan: Plan,
    adapter: Vector,
    memory: Memory,
    gradient_sum: NDArray[np.float64],
    survivors: int,
    layout: AdapterLayout,
) -> tuple[Vector, Memory]:
    """One step of the plan's server optimizer on a summed gradient.

    The divisor is the number of survivors times the plan's expected batch: public numbers, whoever was sampled.

    Args:
        plan: optimizer, learning rates and expected batch.
        adapter: float32 ``[P]``.
        memory: of the step before; empty at the first.
        gradient_sum: decoded noisy sum over the survivors, float64 ``[P]``.
        survivors: hospitals in the sum, at least 1.
        layout: where head and LoRA tensors lie.

    Raises:
        IntegrityError: FW-STRATEGY-010, ``memory`` belongs to another adapter or optimizer.
    """
    if adapter.shape != (layout.size,) or gradient_sum.shape != (layout.size,) or survivors < 1:
        raise ValueError("the sum does not fit the adapter layout")
    gradient = gradient_sum / (survivors * plan.privacy.expected_batch)
    direction, memory = RULES[plan.server.optimizer](plan.server, gradient, memory)
    moved = adapter.astype(np.float64) - learning_rates(plan, layout) * direction
    return moved.astype(np.float32), memory


def learning_rates(plan: Plan, layout: AdapterLayout) -> NDArray[np.float64]:
    """The rate of every entry, float64 ``[P]``: one for the head, one for LoRA."""
    return rates_by_tensor(layout, head=plan.server.learning_rate_head, lora=plan.server.learning_rate_lora)


def rates_by_tensor(layout: AdapterLayout, *, head: float, lora: float) -> NDArray[np.float64]:
    """``head`` for every entry of the linear head and ``lora`` for all others, float64 ``[P]``."""
    return np.concatenate([np.full(t.size, head if t.name.startswith(HEAD) else lora) for t in layout.tensors])


def adam(plan: ServerPlan, gradient: NDArray[np.float64], memory: Memory) -> tuple[NDArray[np.float64], Memory]:
    """Direction of Adam (Kingma and Ba 2015, algorithm 1); memory is step count, first and second moment."""
    size = gradient.size
    memory = _memory(memory, 1 + 2 * size)
    steps = int(memory[0]) + 1
    first = memory[1 : 1 + size] * plan.momentum + gradient * (1.0 - plan.momentum)
    second = memory[1 + size :] * plan.second_moment + gradient * gradient * (1.0 - plan.second_moment)
    mean = first / (1.0 - _power(plan.momentum, steps))
    scale = np.sqrt(second / (1.0 - _power(plan.second_moment, steps))) + plan.stabiliser
    return mean / scale, np.concatenate([[float(steps)], first, second])


def momentum(plan: ServerPlan, gradient: NDArray[np.float64], memory: Memory) -> tuple[NDArray[np.float64], Memory]:
    """Direction of gradient descent with heavy-ball momentum (Polyak 1964); memory is the velocity."""
    velocity = _memory(memory, gradient.size) * plan.momentum + gradient
    return velocity, velocity


RULES: dict[str, Rule] = {"adam": adam, "sgd": momentum}


def _memory(memory: Memory, size: int) -> Memory:
    if memory.size == 0:
        return np.zeros(size)
    if memory.shape != (size,) or not np.isfinite(memory).all():
        raise IntegrityError("The server optimizer's memory does not fit the adapter.", code="FW-STRATEGY-010")
    return memory


def _power(base: float, exponent: int) -> float:
    """base^exponent by multiplication: ``pow`` differs between C libraries in its last bit."""
    result = 1.0
    for _ in range(exponent):
        result *= base
    return result
