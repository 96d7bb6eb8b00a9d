"""Readmission at a hospital: every hospital stay of an adult with intensive care that ended alive.

An admission of any kind that begins within 30 days counts, planned ones too. What was recorded until discharge may be
read; codes assigned at discharge and discharge summaries may not.
"""

from fedward.client.data.events import Outcome, discharge_hours
from fedward.client.tasks.prediction import Binary
from fedward.client.tasks.task import StaySource
from fedward.tasks.readmission import TASK


def label(outcome: Outcome) -> int | None:
    """Returns 1 for a patient who was admitted again within 30 days, None where the source does not tell."""
    return None if outcome.readmitted is None else int(outcome.readmitted)


LOCAL = Binary(
    TASK, StaySource(label, minimum_hours=0.0, one_per="admission", moment=discharge_hours, outcomes=("readmission",))
)
