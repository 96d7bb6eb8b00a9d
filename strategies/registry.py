"""Strategies by name. Adding one is one file and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from functools import cache
from importlib import import_module

from fedward.adapter import AdapterLayout
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.strategies.refusals import refuse_individual
from fedward.strategies.strategy import Strategy

STRATEGIES: dict[str, str] = {
    "ffa": "fedward.strategies.mean:FFALoRA",
    "fedit": "fedward.strategies.mean:FedIT",
    "fedsvd": "fedward.strategies.fedsvd:FedSVD",
    "fedsb": "fedward.strategies.fedsb:FedSB",
    "fedprox": "fedward.strategies.optimized:FedProx",
    "fedavgm": "fedward.strategies.optimized:FedAvgM",
    "fedadagrad": "fedward.strategies.optimized:FedAdagrad",
    "fedadam": "fedward.strategies.optimized:FedAdam",
    "fedyogi": "fedward.strategies.optimized:FedYogi",
    "fedask": "fedward.strategies.contrib.fedask:FedASK",
    "feddpa": "fedward.strategies.contrib.feddpa:FedDPA",
    "fedsa": "fedward.strategies.contrib.fedsa:FedSA",
    "group-median": "fedward.strategies.contrib.group_median:MedianOfGroups",
    "hetlora": "fedward.strategies.contrib.hetlora:HetLoRA",
    "rolora": "fedward.strategies.contrib.rolora:RoLoRA",
    "scaffold": "fedward.strategies.contrib.scaffold:Scaffold",
}
"""Module and class of each strategy, imported when a plan names it: code that no plan names does not run."""

ALSO_CALLED = {
    "fedavg": "ffa",
    "dpscaffold": "scaffold",
    "medianofmeans": "group-median",
    "lora": "fedit",
    "fed": "fedit",
    "pfed": "feddpa",
}
"""Published names, without case, hyphens and the ending LoRA, that are not spelt like those here."""


class UnknownStrategyError(ConfigError):
    """The named strategy does not exist."""

    code = "FW-STRATEGY-001"


class PlacementError(ConfigError):
    """The strategy cannot be combined with the placement of the noise."""

    code = "FW-STRATEGY-003"
    default_fix = "Use privacy.placement = 'local', or the strategy 'ffa' or 'fedit'."


class UnknownRankError(ConfigError):
    """A lower rank is given to a hospital that is not on the roster."""

    code = "FW-STRATEGY-019"
    default_fix = "Spell the names under adapter.ranks as the roster does."


class RanksDifferError(ConfigError):
    """Hospitals are given different ranks, which the strategy cannot add up."""

    code = "FW-STRATEGY-005"
    default_fix = (
        "Remove adapter.ranks, or use 'ffa', 'fedsb', 'fedsvd', 'fedask' or 'hetlora' with privacy.placement = 'local'."
    )


class ServerOptimizerError(ConfigError):
    """A server optimizer on averaged deltas was asked for where it would not move what it remembers."""

    code = "FW-STRATEGY-015"
    default_fix = "Remove [update], or use the strategy 'ffa' or 'fedit' with privacy.placement = 'local'."


class GateError(ConfigError):
    """The holdout gate was asked for where it could not take a round back, or would not see one alone."""

    code = "FW-STRATEGY-017"
    default_fix = (
        "Set gate.enabled = false, or use the strategy 'ffa', 'fedit' or one of their server optimizers with "
        "privacy.evaluate_every = 1."
    )


class ProximalError(ConfigError):
    """FedProx was asked for in rounds of a single step, which it cannot change."""

    code = "FW-STRATEGY-016"
    default_fix = (
        "Set training.proximal = 0 and use another strategy than 'fedprox', or take several local steps, which need "
        "privacy.placement = 'local'."
    )


class TooFewForStrategyError(ConfigError):
    """The roster is too small for the sums that the strategy forms."""

    code = "FW-STRATEGY-013"
    default_fix = (
        "Take part with more hospitals (in a simulation: --hospitals), or use fewer groups, a roster with a smaller c, "
        "or the strategy 'ffa' with a holdout gate."
    )


def find_strategy(name: str) -> type[Strategy]:
    """The strategy ``name``.

    Raises:
        NeedsIndividualUpdatesError: it cannot work on sums; names the nearest one that does.
        UnknownStrategyError: there is no such strategy.
    """
    if name in STRATEGIES:
        return _imported(STRATEGIES[name])
    refuse_individual(name)
    near = _nearest(name)
    hint = f"Did you mean {near!r}?" if near else f"Known strategies: {', '.join(sorted(STRATEGIES))}."
    raise UnknownStrategyError(f"There is no strategy {name!r}.", fix=hint)


@cache
def _imported(path: str) -> type[Strategy]:
    module, _, kind = path.partition(":")
    found: type[Strategy] = getattr(import_module(module), kind)
    return found


def _nearest(name: str) -> str | None:
    """The strategy that a published or mistyped ``name`` probably means."""
    plain = _plain(name)
    names = {_plain(known): known for known in STRATEGIES} | ALSO_CALLED
    near = difflib.get_close_matches(plain, names, n=1)
    return names[near[0]] if near else None


def _plain(name: str) -> str:
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    return letters if letters in ("lora", "rolora") else letters.removesuffix("lora")


def check_strategy(plan: Plan) -> type[Strategy]:
    """The strategy of ``plan``, after checking that the plan's settings go together with it.

    Raises:
        UnknownStrategyError, NeedsIndividualUpdatesError: as for :func:`find_strategy`.
        UnknownKeyError, OptionError: ``strategy_options`` are not those of the strategy.
        PlacementError: gradients are summed, but the strategy's update is more than the mean of what is sent.
        RanksDifferError: ``adapter.ranks`` lowers ranks, but the strategy, or the placement, needs one rank for all.
        ServerOptimizerError: ``update.optimizer`` on a strategy or placement without averaged deltas of one meaning.
        ProximalError: ``training.proximal`` where a round is one step.
        GateError: ``gate.enabled`` where hospitals or earlier phases hold what the gate could not take back.
    """
    kind = find_strategy(plan.strategy)
    kind.options(plan)
    if plan.privacy.placement not in kind.declaration.placements:
        raise PlacementError(f"The strategy {plan.strategy!r} needs deltas of local training, not a gradient sum.")
    _check_additions(plan, kind)
    mixes = kind.declaration.mixed_ranks and plan.privacy.placement == "local"
    if not mixes and any(rank != plan.adapter.rank for rank in plan.adapter.ranks.values()):
        raise RanksDifferError(f"The strategy {plan.strategy!r} needs the same rank at every hospital.")
    return kind


def check_ranks(plan: Plan, sites: Collection[str]) -> None:
    """Refuses a plan that gives a rank to a hospital that is not one of the roster's ``sites``; UnknownRankError."""
    unknown = sorted(set(plan.adapter.ranks) - set(sites))
    if unknown:
        raise UnknownRankError(f"adapter.ranks names {', '.join(unknown)}, which the roster does not.")


def check_sites(plan: Plan, *, hospitals: int, min_cohort: int) -> None:
    """Refuses a roster of too few ``hospitals`` for the strategy, or whose sums would be below ``min_cohort``.

    Raises:
        TooFewForStrategyError: see there.
    """
    kind = find_strategy(plan.strategy)
    fewest, size = kind.declaration.fewest_hospitals, kind.smallest_sum(plan, hospitals)
    if hospitals < fewest or size < min_cohort:
        raise TooFewForStrategyError(
            f"The strategy {plan.strategy!r} needs {fewest} hospitals and sums of at least {min_cohort}; "
            f"{hospitals} hospitals form sums of {size}."
        )


def _check_additions(plan: Plan, kind: type[Strategy]) -> None:
    shared = plan.privacy.placement == "secure-grad"
    if plan.update.optimizer != "mean" and shared:
        raise ServerOptimizerError("Gradient sums have a server optimizer of their own, in [server].")
    if plan.update.optimizer != "mean" and not kind.declaration.server_optimizers:
        raise ServerOptimizerError(
            f"No server optimizer follows the strategy {plan.strategy!r}: what its sums mean changes between rounds."
        )
    kept = kind.declaration.variates or kind.declaration.personalises
    if plan.gate.enabled and (kept or kind.sums(plan) > 1):
        raise GateError(f"The holdout gate cannot take back a round of the strategy {plan.strategy!r}.")
    if plan.gate.enabled and plan.privacy.evaluate_every > 1:
        raise GateError("The holdout gate needs a score after every round, or it takes back rounds it never judged.")
    if plan.training.proximal and shared:
        raise ProximalError("Under secure-grad a hospital takes no step of its own that could be held back.")
    if kind.proximal(plan) and plan.training.local_steps == 1:
        raise ProximalError("The first local step starts at the round's adapter, so a single one is not held back.")


def make_strategy(plan: Plan, layout: AdapterLayout) -> Strategy:
    """The checked strategy of ``plan`` on a state of ``layout``; raises like :func:`check_strategy`."""
    return check_strategy(plan)(plan, layout)
