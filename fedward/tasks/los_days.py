"""Days in intensive care, predicted after the first.

Stays in intensive care are few days for most patients and weeks for some: the number is capped, and counted in units
of four days, so that a typical value is near 1 and no value is above 3.5.
"""

from fedward.measures.bounded_mean import SquaredError
from fedward.tasks.task import Head, Task

CAP_DAYS, SCALE_DAYS = 14.0, 4.0

TASK = Task(
    name="los-days",
    version=1,
    outcome="days in intensive care, up to 14, in units of 4 days",
    purpose="how many days a patient stays in intensive care, from the first day there",
    head=Head(),
    measures=(SquaredError(bound=4.0),),
    loss_bound=4.0,
)
"""Squared errors are cut at 4, that is at a prediction that misses by eight days."""
