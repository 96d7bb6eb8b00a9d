"""Length of stay: more than three days in intensive care, predicted after the first."""

from fedward.tasks.mortality import BINARY_MEASURES
from fedward.tasks.task import Head, Task

TASK = Task(
    name="los3",
    version=1,
    outcome="an ICU stay longer than three days",
    purpose="whether a patient stays in intensive care for more than three days, from the first day there",
    head=Head(),
    measures=BINARY_MEASURES,
)
