"""Mortality: death before hospital discharge, predicted on the first day in intensive care."""

from fedward.measures.auroc import Auroc
from fedward.measures.calibration import (
    Brier,
    CalibrationError,
    CalibrationIntercept,
    CalibrationSlope,
    ObservedOverExpected,
)
from fedward.measures.log_loss import LogLoss
from fedward.measures.precision_recall import Auprc
from fedward.tasks.task import Head, Task

_CALIBRATION = (ObservedOverExpected(), CalibrationSlope(), CalibrationIntercept(), CalibrationError())
BINARY_MEASURES = (Auroc(), LogLoss(), Auprc(), Brier(), *_CALIBRATION)
"""What a task with one yes-or-no outcome is judged by."""

TASK = Task(
    name="mortality",
    version=1,
    outcome="in-hospital death",
    purpose="the risk that a patient dies in hospital, from the first day in intensive care",
    head=Head(),
    measures=BINARY_MEASURES,
)
