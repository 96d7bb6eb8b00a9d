"""The one place that maps protocol rounds to training rounds and phases, and turns sums into the next state."""

from __future__ import annotations

from collections.abc import Sequence

from fedward.adapter import AdapterLayout, Vector
from fedward.plan import Plan
from fedward.strategies.optimizers import Memory, gradient_step
from fedward.strategies.registry import find_strategy, make_strategy
from fedward.strategies.strategy import Step, Sums

GRADIENT = "gradient"
"""Name of the segment that is summed under ``secure-grad`` in place of a strategy's parts."""


def final_round(plan: Plan) -> int:
    """Number of the protocol round that only scores, after the last training round."""
    return plan.training.rounds * find_strategy(plan.strategy).sums(plan) + 1


def step_of(plan: Plan, number: int) -> Step:
    """Training round and phase of protocol round ``number``, 1 to :func:`final_round`."""
    phases, rounds = find_strategy(plan.strategy).sums(plan), plan.training.rounds
    before, phase = divmod(number - 1, phases)
    if before >= rounds:
        return Step(number, rounds + 1, 1, 1, rounds)
    return Step(number, before + 1, phase + 1, phases, rounds)


def first_step(plan: Plan, round_number: int) -> Step:
    """The first phase of training round ``round_number``; that of R + 1 is the scoring round."""
    return step_of(plan, (round_number - 1) * find_strategy(plan.strategy).sums(plan) + 1)


def trains(plan: Plan, step: Step) -> bool:
    """Whether hospitals train in ``step``; it is the only time that their ledgers are charged for training."""
    return not step.scores_only and (step.opens or find_strategy(plan.strategy).declaration.trains_in_every_phase)


def private_steps(plan: Plan) -> int:
    """Noisy steps of one training round that a training patient's ledger is charged for, personal ones included."""
    return plan.training.local_steps + find_strategy(plan.strategy).personal_steps(plan)


def advance(
    plan: Plan,
    state: Vector,
    memory: Memory,
    sums: Sums,
    survivors: Sequence[str],
    layout: AdapterLayout,
    number: int,
) -> tuple[Vector, Memory]:
    """The next state and memory of ``plan``; coordinator and hospitals call this same function.

    Args:
        plan: strategy, placement and server optimizer.
        state: the current global state.
        memory: of strategy or server optimizer; empty before the first round.
        sums: every segment of the decoded sum.
        survivors: sorted names of the hospitals in the sum.
        layout: of the state.
        number: the protocol round.

    Returns:
        State and memory after the round.
    """
    strategy, step = make_strategy(plan, layout), step_of(plan, number)
    if step.scores_only:
        return state, memory
    if plan.privacy.placement == "secure-grad":
        return gradient_step(plan, state, memory, sums[GRADIENT], len(survivors), layout)
    return strategy.advance(step, state, memory, sums, survivors)
