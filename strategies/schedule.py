"""The one place that maps protocol rounds to training rounds and phases, and turns sums into the next state."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import RunFailedError
from fedward.plan import Plan
from fedward.strategies import gate
from fedward.strategies.optimizers import Memory, gradient_step
from fedward.strategies.registry import find_strategy, make_strategy
from fedward.strategies.strategy import Step, Sums

GRADIENT = "gradient"
"""Name of the segment that is summed under ``secure-grad`` in place of a strategy's parts."""

SCORES = "evaluation"
"""Name of the segment with the histogram of scores on evaluation patients, which the holdout gate reads."""


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


def follows_up(plan: Plan, step: Step) -> bool:
    """Whether ``step`` sums another function of what hospitals trained for the sum before.

    Such a sum must be over exactly the hospitals of the one before. Over one hospital less, the two would show what
    that hospital alone has trained.
    """
    return not (step.scores_only or trains(plan, step))


def cohort(plan: Plan, number: int, sites: Collection[str]) -> frozenset[str]:
    """Hospitals of the roster ``sites`` that protocol round ``number`` may ask."""
    return find_strategy(plan.strategy).cohort(plan, step_of(plan, number), sites)


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

    Raises:
        RunFailedError: FW-STRATEGY-018, one of them would hold a number that is not finite.
    """
    best, inner = _judged(plan, state, memory, sums) if plan.gate.enabled else (None, memory)
    kept = gate.unpack(memory, state.size)[0] if plan.gate.enabled and best is None else None
    if kept is not None:
        state, memory = kept.state, gate.pack(kept, kept.memory)
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # of which the result tells
            state, inner = _moved(plan, state, inner, sums, survivors, layout, number)
        memory = gate.pack(best, inner) if plan.gate.enabled else inner
    if not (np.isfinite(state).all() and np.isfinite(memory).all()):
        raise RunFailedError("The update of a round leads to numbers that are not finite.", code="FW-STRATEGY-018")
    return state, memory


def takes_back(plan: Plan, state: Vector, memory: Memory, sums: Sums) -> bool:
    """Whether the holdout gate drops ``state`` and the sum trained from it; arguments as for :func:`advance`."""
    if not plan.gate.enabled or gate.unpack(memory, state.size)[0] is None:
        return False
    return _judged(plan, state, memory, sums)[0] is None


def _judged(plan: Plan, state: Vector, memory: Memory, sums: Sums) -> tuple[gate.Best | None, Memory]:
    """The best state after ``state`` was scored, if it was; None if ``state`` fails, or if none was ever scored."""
    best, inner = gate.unpack(memory, state.size)
    if SCORES in sums:
        best = gate.judge(sums[SCORES], state, inner, best, tolerance=plan.gate.tolerance)
    return best, inner


def _moved(
    plan: Plan,
    state: Vector,
    memory: Memory,
    sums: Sums,
    survivors: Sequence[str],
    layout: AdapterLayout,
    number: int,
) -> tuple[Vector, Memory]:
    strategy, step = make_strategy(plan, layout), step_of(plan, number)
    if step.scores_only:
        return state, memory
    if plan.privacy.placement == "secure-grad":
        return gradient_step(plan, state, memory, sums[GRADIENT], len(survivors), layout)
    return strategy.advance(step, state, memory, sums, survivors)
