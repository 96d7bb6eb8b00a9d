"""Length of stay at a hospital: the first eligible stay of each patient that lasted the whole first day.

Leaving intensive care before prediction time would be the answer.
"""

from fedward.client.data.events import PREDICTION_HOURS, Outcome
from fedward.client.tasks.prediction import Binary
from fedward.client.tasks.task import StaySource
from fedward.tasks.los3 import TASK


def label(outcome: Outcome) -> int:
    """1 for more than 3 days in intensive care."""
    return int(outcome.unit_hours > 72.0)


LOCAL = Binary(TASK, StaySource(label, minimum_hours=PREDICTION_HOURS))
