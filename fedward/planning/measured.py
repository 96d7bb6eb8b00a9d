"""Utility that was measured, by the name of the sweep that measured it; nothing here is extrapolated."""

from __future__ import annotations

from dataclasses import dataclass

from fedward.measures.auroc import Auroc
from fedward.planning.scenario import Scenario, load_scenario


@dataclass(frozen=True)
class MeasuredUtility:
    """Mean of a measure within hospitals over several draws of a shipped scenario."""

    scenario: str  # name of the shipped scenario, with its settings as they are
    epsilon: float | None  # its budget; None without differential privacy
    alone: float  # of the hospitals alone
    federated: float  # of the federation
    pooled: float  # with all data in one place
    measure: str = Auroc.title  # what people call it
    sweep: str = "python -m benchmarks.utility"  # the command that measures it
    draws: int = 5  # over how many draws of the hospitals


MEASURED = (MeasuredUtility("no-dp", None, 0.760, 0.834, 0.823), MeasuredUtility("default", 8.0, 0.723, 0.818, 0.822))


def measured_utility(scenario: Scenario) -> MeasuredUtility | None:
    """The figure for exactly these settings, whatever the seed and the speed; None if nobody measured them."""
    for entry in MEASURED:
        epsilon = scenario.privacy.epsilon if scenario.privacy.private else None
        if epsilon == entry.epsilon and _settings(scenario) == _settings(load_scenario(entry.scenario)):
            return entry
    return None


def _settings(scenario: Scenario) -> dict[str, object]:
    apart = {"name", "description", "seed", "speed", "compare"}
    return scenario.model_dump(exclude=apart)
