"""Phenotypes: ten groups of diagnoses, predicted on the first day in intensive care."""

from fedward.measures.f1 import MicroF1
from fedward.measures.macro_auroc import MacroAuroc
from fedward.tasks.task import Head, Task

CLASSES = (
    "sepsis",
    "pneumonia",
    "respiratory-failure",
    "copd",
    "heart-failure",
    "myocardial-infarction",
    "arrhythmia",
    "stroke",
    "kidney-failure",
    "diabetes",
)

TASK = Task(
    name="phenotypes",
    version=1,
    outcome="groups of diagnoses",
    purpose="which of ten groups of diagnoses a stay is coded with, from its first day in intensive care",
    head=Head(outputs=len(CLASSES)),
    measures=(MacroAuroc(len(CLASSES)), MicroF1()),
    classes=CLASSES,
)
