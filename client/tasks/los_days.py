"""Days in intensive care at a hospital: every stay that lasted the whole first day."""

from fedward.client.data.events import PREDICTION_HOURS, Outcome
from fedward.client.tasks.prediction import Regression
from fedward.client.tasks.task import StaySource
from fedward.tasks.los_days import CAP_DAYS, SCALE_DAYS, TASK


def label(outcome: Outcome) -> float:
    """Returns the days in intensive care, capped and scaled."""
    return min(outcome.unit_hours / 24.0, CAP_DAYS) / SCALE_DAYS


LOCAL = Regression(TASK, StaySource(label, minimum_hours=PREDICTION_HOURS, one_per="stay"))
