"""What a strategy goes together with: a plan's other settings, and its hospitals. All else is refused."""

from collections.abc import Collection

from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.strategies.optimizers import RULES, rule_of
from fedward.strategies.registry import find_strategy
from fedward.strategies.strategy import Strategy


def check_strategy(plan: Plan) -> type[Strategy]:
    """The strategy of ``plan``, after checking that the plan's settings go together with it.

    Raises like :func:`find_strategy` and :meth:`Strategy.options`, and FW-STRATEGY-003 (gradients are summed, but the
    strategy's update is more than the mean of what is sent), FW-STRATEGY-005 (``adapter.ranks`` lowers ranks, but the
    strategy, or the placement, needs one rank for all), FW-STRATEGY-015 (``optimizer.rule`` for another placement, or
    on a strategy that changes its basis), FW-STRATEGY-016 (``training.proximal`` where a round is one step),
    FW-STRATEGY-017 (``gate.enabled`` where hospitals or earlier phases hold what the gate could not take back).
    """
    kind = find_strategy(plan.strategy)
    kind.options(plan)
    if plan.privacy.placement not in kind.declaration.placements:
        message = f"The strategy {plan.strategy!r} needs deltas of local training, not a gradient sum."
        raise ConfigError(message, code="FW-STRATEGY-003")
    _check_additions(plan, kind)
    mixes = kind.declaration.mixed_ranks and plan.privacy.placement == "local"
    if not mixes and any(rank != plan.adapter.rank for rank in plan.adapter.ranks.values()):
        message = f"The strategy {plan.strategy!r} needs the same rank at every hospital."
        raise ConfigError(message, code="FW-STRATEGY-005")
    return kind


def check_ranks(plan: Plan, sites: Collection[str]) -> None:
    """Refuses a plan that gives a rank to a hospital that is not one of the roster's ``sites``; FW-STRATEGY-019."""
    unknown = sorted(set(plan.adapter.ranks) - set(sites))
    if unknown:
        message = f"adapter.ranks names {', '.join(unknown)}, which the roster does not."
        raise ConfigError(message, code="FW-STRATEGY-019")


def check_sites(plan: Plan, kind: type[Strategy], *, hospitals: int, min_cohort: int) -> None:
    """Refuses a roster of too few ``hospitals``, or whose sums would be below ``min_cohort``; FW-STRATEGY-013."""
    fewest, size = kind.declaration.fewest_hospitals, kind.smallest_sum(plan, hospitals)
    if hospitals < fewest or size < min_cohort:
        needs = f"The strategy {plan.strategy!r} needs {fewest} hospitals and sums of at least {min_cohort}"
        raise ConfigError(f"{needs}; {hospitals} hospitals form sums of {size}.", code="FW-STRATEGY-013")


def _check_additions(plan: Plan, kind: type[Strategy]) -> None:
    placement, rule, gate = plan.privacy.placement, rule_of(plan), plan.gate.enabled
    if RULES[rule].placement != placement:
        able = ", ".join(name for name, other in RULES.items() if other.placement == placement)
        message = f"The optimizer {rule!r} is not for what hospitals send under {placement}."
        fix = f"Remove optimizer.rule or set it to one of: {able}."
        raise ConfigError(message, code="FW-STRATEGY-015", fix=fix)
    if placement == "local" and rule != "mean" and not kind.declaration.server_optimizers:
        message = f"No server optimizer follows the strategy {plan.strategy!r}"
        raise ConfigError(f"{message}: what its sums mean changes between rounds.", code="FW-STRATEGY-015")
    if gate and (kind.declaration.variates or kind.declaration.personalises or kind.sums(plan) > 1):
        message = f"The holdout gate cannot take back a round of the strategy {plan.strategy!r}."
        raise ConfigError(message, code="FW-STRATEGY-017")
    if gate and plan.privacy.evaluate_every > 1:
        message = "The holdout gate needs a score after every round, or it takes back rounds it never judged."
        raise ConfigError(message, code="FW-STRATEGY-017")
    if plan.training.proximal and placement == "secure-grad":
        message = "Under secure-grad a hospital takes no step of its own that could be held back."
        raise ConfigError(message, code="FW-STRATEGY-016")
    if plan.training.proximal and plan.training.local_steps == 1:
        message = "The first local step starts at the round's adapter, so a single one is not held back."
        raise ConfigError(message, code="FW-STRATEGY-016")
