"""Readmission: another hospital admission within 30 days, predicted when a patient leaves hospital alive."""

from fedward.tasks.mortality import BINARY_MEASURES
from fedward.tasks.task import Head, Task

TASK = Task(
    name="readmission",
    version=1,
    outcome="readmission to hospital within 30 days",
    purpose="the risk of another hospital admission within 30 days, from what is known when a patient leaves",
    head=Head(),
    measures=BINARY_MEASURES,
)
