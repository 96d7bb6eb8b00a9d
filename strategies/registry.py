"""The strategies by name. Adding one is one file and one line here."""

from __future__ import annotations

import difflib

from fedward.adapter import AdapterLayout
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.strategies.mean import FedIT, FFALoRA
from fedward.strategies.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    kind.declaration.name: kind
    for kind in (
        FFALoRA,
        FedIT,
    )
}

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


class RanksDifferError(ConfigError):
    """Hospitals are given different ranks, which the strategy cannot add up."""

    code = "FW-STRATEGY-005"


def find_strategy(name: str) -> type[Strategy]:
    """The strategy ``name``.

    Raises:
        NeedsIndividualUpdatesError: it cannot work on sums; names the nearest one that does.
        UnknownStrategyError: there is no such strategy.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    if name in NEEDS_INDIVIDUAL_UPDATES:
        reason, instead = NEEDS_INDIVIDUAL_UPDATES[name]
        raise NeedsIndividualUpdatesError(
            f"The strategy {name!r} cannot run on encrypted sums: {reason}.", fix=f"Use {instead!r} instead."
        )
    near = difflib.get_close_matches(name, STRATEGIES, n=1)
    known = ", ".join(sorted(STRATEGIES))
    hint = f"Did you mean {near[0]!r}?" if near else f"Known strategies: {known}."
    raise UnknownStrategyError(f"There is no strategy {name!r}.", fix=hint)


def check_strategy(plan: Plan) -> type[Strategy]:
    """The strategy of ``plan``, after checking that the plan's settings go together with it.

    Raises:
        UnknownStrategyError, NeedsIndividualUpdatesError: as for :func:`find_strategy`.
        UnknownKeyError, OptionError: ``strategy_options`` are not those of the strategy.
        PlacementError: gradients are summed, but the strategy's update is more than the mean of what is sent.
        RanksDifferError: ``adapter.ranks`` lowers ranks, but the strategy needs one rank for all.
    """
    kind = find_strategy(plan.strategy)
    kind.options(plan)
    if plan.privacy.placement not in kind.declaration.placements:
        raise PlacementError(f"The strategy {plan.strategy!r} needs deltas of local training, not a gradient sum.")
    if not kind.declaration.mixed_ranks and any(rank != plan.adapter.rank for rank in plan.adapter.ranks.values()):
        able = [name for name, other in sorted(STRATEGIES.items()) if other.declaration.mixed_ranks]
        raise RanksDifferError(
            f"The strategy {plan.strategy!r} needs the same rank at every hospital.",
            fix=f"Remove adapter.ranks, or use one of: {', '.join(able)}." if able else "Remove adapter.ranks.",
        )
    return kind


def make_strategy(plan: Plan, layout: AdapterLayout) -> Strategy:
    """The checked strategy of ``plan`` on a state of ``layout``; raises like :func:`check_strategy`."""
    return check_strategy(plan)(plan, layout)
