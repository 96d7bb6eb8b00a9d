"""Price: epsilon of one population of units over a whole run, with all that it depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedward.plan import PrivacyPlan
from fedward.privacy.accounting import epsilon, epsilon_everybody
from fedward.privacy.events import RELATION, Event
from fedward.units import UnitName


@dataclass(frozen=True)
class Price:
    """Epsilon of one population of units over the whole run, with all that it depends on.

    ``epsilon`` is against the coordinator with up to c hospitals, ``epsilon_everybody`` against all other hospitals and
    the coordinator together; they are equal unless hospitals share noise, and then it is None until their number is
    known.
    """

    epsilon: float
    epsilon_everybody: float | None
    delta: float
    accountant: str
    rdp_epsilon: float
    unit: UnitName
    relation: str = RELATION
    sampler: str = "poisson"


def price_of(events: Sequence[Event], privacy: PrivacyPlan) -> Price | None:
    """What ``events`` cost at the plan's delta; None without any."""
    if not events:
        return None
    spent = epsilon(events, privacy.delta)
    sampler = "none" if all(event.kind == "release" for event in events) else "poisson"
    everybody = epsilon_everybody(events, privacy.delta)
    told = everybody if math.isfinite(everybody) else None
    return Price(spent.epsilon, told, spent.delta, spent.accountant, spent.rdp_epsilon, privacy.unit, sampler=sampler)
