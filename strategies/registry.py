"""The strategies by name. Adding one is one file and one line here."""

from __future__ import annotations

import difflib

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import ConfigError
from fedward.strategies.mean import FedIT, FFALoRA
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


def advance(
    name: str, adapter: Vector, delta_sum: NDArray[np.float64] | None, survivors: int, layout: AdapterLayout
) -> Vector:
    """The next global adapter under strategy ``name``; coordinator and hospitals call this same function.

    Args:
        name: strategy of the plan.
        adapter: the current global adapter.
        delta_sum: decoded sum of deltas, or None for a round that only scores.
        survivors: hospitals in the sum.
        layout: where each tensor lies.
    """
    return adapter if delta_sum is None else make_strategy(name).update(adapter, delta_sum, survivors, layout)
