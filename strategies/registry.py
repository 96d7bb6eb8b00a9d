"""The strategies by name. Adding one is one file and one line here."""

from __future__ import annotations

import difflib

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.strategies.mean import FedIT, FFALoRA, MeanOfDeltas
from fedward.strategies.optimizers import Memory, gradient_step
from fedward.strategies.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {kind.declaration.name: kind for kind in (FFALoRA, FedIT)}

NEEDS_INDIVIDUAL_UPDATES: dict[str, tuple[str, str]] = {
    "flora": ("it stacks each hospital's own factors", "ffa"),
    "krum": ("it compares individual deltas", "ffa"),
    "median": ("it sorts individual deltas", "ffa"),
    "trimmed-mean": ("it sorts individual deltas", "ffa"),
}


class UnknownStrategyError(ConfigError):
    """The named strategy does not exist."""

    code = "FW-STRATEGY-001"


class NeedsIndividualUpdatesError(ConfigError):
    """The named strategy reads individual deltas, which secure aggregation never reveals."""

    code = "FW-STRATEGY-002"


class PlacementError(ConfigError):
    """The strategy cannot be combined with the placement of the noise."""

    code = "FW-STRATEGY-003"
    default_fix = "Use privacy.placement = 'local', or the strategy 'ffa' or 'fedit'."


def make_strategy(name: str) -> Strategy:
    """Builds the strategy ``name``.

    Raises:
        NeedsIndividualUpdatesError: it cannot work on sums; names the nearest one that does.
        UnknownStrategyError: there is no such strategy.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]()
    if name in NEEDS_INDIVIDUAL_UPDATES:
        reason, instead = NEEDS_INDIVIDUAL_UPDATES[name]
        raise NeedsIndividualUpdatesError(
            f"The strategy {name!r} cannot run on encrypted sums: {reason}.", fix=f"Use {instead!r} instead."
        )
    near = difflib.get_close_matches(name, STRATEGIES, n=1)
    known = ", ".join(sorted(STRATEGIES))
    hint = f"Did you mean {near[0]!r}?" if near else f"Known strategies: {known}."
    raise UnknownStrategyError(f"There is no strategy {name!r}.", fix=hint)


def check_placement(plan: Plan) -> None:
    """Refuses a strategy that cannot use what the plan's placement sums.

    Raises:
        PlacementError: gradients are summed, but the strategy's update is more than the mean of what is sent.
        UnknownStrategyError, NeedsIndividualUpdatesError: as for :func:`make_strategy`.
    """
    if not isinstance(make_strategy(plan.strategy), MeanOfDeltas) and plan.privacy.placement == "secure-grad":
        raise PlacementError(f"The strategy {plan.strategy!r} needs deltas of local training, not a gradient sum.")


def advance(
    plan: Plan,
    adapter: Vector,
    memory: Memory,
    summed: NDArray[np.float64] | None,
    survivors: int,
    layout: AdapterLayout,
) -> tuple[Vector, Memory]:
    """The next global adapter of ``plan``; coordinator and hospitals call this same function.

    Args:
        plan: strategy, placement and server optimizer.
        adapter: the current global adapter.
        memory: of the server optimizer; empty where none is used and before its first step.
        summed: decoded sum of deltas or, under ``secure-grad``, of gradients; None for a round that only scores.
        survivors: hospitals in the sum.
        layout: where each tensor lies.

    Returns:
        Adapter and memory after the round.
    """
    if summed is None:
        return adapter, memory
    if plan.privacy.placement == "secure-grad":
        check_placement(plan)
        return gradient_step(plan, adapter, memory, summed, survivors, layout)
    return make_strategy(plan.strategy).update(adapter, summed, survivors, layout), memory
