"""Mortality at a hospital: the first eligible stay of each patient."""

from fedward.client.data.events import Outcome
from fedward.client.tasks.prediction import Binary
from fedward.client.tasks.task import StaySource
from fedward.tasks.mortality import TASK


def label(outcome: Outcome) -> int:
    """1 for a death before hospital discharge."""
    return int(outcome.died)


LOCAL = Binary(TASK, StaySource(label))
