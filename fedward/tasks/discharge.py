"""Discharge: where a patient goes from hospital, predicted on the first day in intensive care."""

from fedward.measures.bounded_mean import Accuracy, MeanLoss
from fedward.tasks.task import Head, Task

CLASSES = ("home", "facility", "died", "other")

TASK = Task(
    name="discharge",
    version=1,
    outcome="where the patient goes from hospital",
    purpose="whether a patient goes home, to a facility or elsewhere or dies in hospital, from the first day there",
    head=Head(outputs=len(CLASSES)),
    measures=(Accuracy(), MeanLoss(bound=4.0)),
    classes=CLASSES,
)
