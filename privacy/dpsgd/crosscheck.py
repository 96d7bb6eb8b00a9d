"""The privacy certificate: an epsilon that a second, independent accountant has confirmed.

PLD (dp-accounting) states the epsilon; PRV (Gopi et al. 2021, as implemented in Opacus) must agree within its own error
and one per cent, and RDP must not lie below. A certificate whose accountants disagree is not issued. The check lives
beside the engine because Opacus' accountants import torch.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from opacus.accountants import PRVAccountant

from fedward.errors import IntegrityError
from fedward.privacy.accounting import REMEMBERED, Spent, epsilon, usable_delta
from fedward.privacy.events import Event, PrivacyParameterError
from fedward.units import UNITS, UnitName

TOLERANCE = 0.01
MECHANISM = "Poisson-subsampled Gaussian (DP-SGD) and Gaussian releases of statistics"
OWN_KEYS = "Each hospital's noise and sampling keys come from its operating system and are not disclosed."
AT_ONE_HOSPITAL = "A {unit} is {present} at one participating hospital; for a {unit} of two hospitals the epsilons add."
NOT_COVERED = (
    "What the base model had seen before this run.",
    "When messages leave: a deployed hospital holds answers that depend on records until a time that the plan fixes; "
    "that one took longer than that, and the load of the machine, can be seen. A simulation does not wait.",
)


@dataclass(frozen=True)
class CrossCheck:
    """PRV's answer for the same events and delta: its estimate and the interval of its own error."""

    accountant: str
    epsilon_lower: float
    epsilon: float
    epsilon_upper: float


@dataclass(frozen=True)
class Certificate:
    """What a run guarantees to each unit of privacy, with everything needed to check it again."""

    spent: Spent  # epsilon, delta, accountant and relation
    cross_check: CrossCheck  # the second accountant's result
    events: tuple[Event, ...]  # the priced mechanisms
    clip: float | None  # L2 bound on one unit's gradient in a step; ``None`` if no step was taken
    assumptions: tuple[str, ...]  # what must hold outside the software
    sampler: str  # how units were chosen for a step
    unit: UnitName  # whose presence epsilon hides
    mechanism: str = MECHANISM  # what was applied to the records


def certify(
    events: Sequence[Event], delta: float, *, unit: UnitName = "patient", clip: float | None = None
) -> Certificate:
    """Certifies what was released about some units; raises FW-DP-001 (nothing), FW-DP-020 (accountants disagree)."""
    if not events:
        raise PrivacyParameterError("There is no event to certify.")
    spent = epsilon(events, delta)
    check = cross_check(tuple(events), delta, expected=spent.epsilon)
    _agree(spent, check)
    at_one_hospital = AT_ONE_HOSPITAL.format(unit=unit, present="treated" if UNITS[unit].persons else "held")
    return Certificate(
        spent=spent,
        cross_check=check,
        events=tuple(events),
        clip=clip,
        assumptions=(OWN_KEYS, at_one_hospital),
        sampler=f"Poisson over {UNITS[unit].plural}",
        unit=unit,
    )


@lru_cache(REMEMBERED)
def cross_check(events: tuple[Event, ...], delta: float, *, expected: float) -> CrossCheck:
    """Prices all events composed with Opacus' PRV accountant, or FW-DP-020; the epsilon ``expected`` sets its mesh."""
    usable = usable_delta(events, delta, bound=expected)
    error = min(0.01, 0.05 * expected)
    accountant = PRVAccountant()
    accountant.history = [(e.noise_multiplier, e.sampling_rate, e.steps) for e in events if e.steps]
    try:
        with warnings.catch_warnings():
            # Opacus takes logarithms of zero where the mass is zero, and picks its mesh with a loose RDP bound.
            warnings.simplefilter("ignore")
            composed = accountant._get_dprv(eps_error=error, delta_error=usable / 1000)
            lower, estimate, upper = composed.compute_epsilon(usable, usable / 1000, error)
    except (ValueError, RuntimeError, ArithmeticError, MemoryError) as cause:
        raise IntegrityError("The PRV accountant could not price the events of this run.", code="FW-DP-020") from cause
    return CrossCheck("PRV", float(lower), float(estimate), float(upper))


def _agree(spent: Spent, check: CrossCheck) -> None:
    low, high = check.epsilon_lower * (1 - TOLERANCE), check.epsilon_upper * (1 + TOLERANCE)
    if not math.isfinite(spent.epsilon) or spent.epsilon < low:
        raise IntegrityError("The stated epsilon lies below what the PRV accountant allows.", code="FW-DP-020")
    if spent.accountant == "PLD" and spent.epsilon > high:
        raise IntegrityError("The PLD epsilon lies above the PRV accountant's upper bound.", code="FW-DP-020")
    if spent.rdp_epsilon < spent.epsilon * (1 - TOLERANCE / 10):
        raise IntegrityError("The RDP epsilon, an upper bound, lies below the PLD epsilon.", code="FW-DP-020")
