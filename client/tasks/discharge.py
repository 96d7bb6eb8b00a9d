"""Discharge at a hospital: the first eligible stay in intensive care of every hospital admission."""

from fedward.client.data.events import Outcome
from fedward.client.tasks.prediction import Multiclass
from fedward.client.tasks.task import StaySource
from fedward.tasks.discharge import TASK


def label(outcome: Outcome) -> str | None:
    """Returns the destination; None where there is none, or where it contradicts the patient's survival."""
    return outcome.destination if (outcome.destination == "died") == outcome.died else None


LOCAL = Multiclass(TASK, StaySource(label, one_per="admission", outcomes=("destination",)))
