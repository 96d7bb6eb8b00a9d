"""Measures by name: how good a model is, on one machine and as read from secure sums. numpy only.

Adding one is one file and one line here; ``measure.py`` is the interface. A task lists the measures that judge it.
"""

from fedward.measures.auroc import Auroc
from fedward.measures.bootstrap import bootstrap_interval
from fedward.measures.bounded_mean import Accuracy, MeanLoss, NormalisedAccuracy, SquaredError
from fedward.measures.calibration import (
    Brier,
    CalibrationError,
    CalibrationIntercept,
    CalibrationSlope,
    ObservedOverExpected,
)
from fedward.measures.f1 import MicroF1
from fedward.measures.log_loss import LogLoss
from fedward.measures.macro_auroc import MacroAuroc
from fedward.measures.measure import Measure, Outcomes, Statistic
from fedward.measures.precision_recall import Auprc
from fedward.measures.token_loss import CharacterLoss, Perplexity, RecordLoss, TokenLoss

MEASURES: dict[str, type[Measure]] = {
    kind.name: kind
    for kind in (
        *(Auroc, LogLoss, Auprc, Brier, CalibrationError, Accuracy, SquaredError, MeanLoss, MacroAuroc, MicroF1),
        *(ObservedOverExpected, CalibrationSlope, CalibrationIntercept),
        *(RecordLoss, CharacterLoss, TokenLoss, Perplexity, NormalisedAccuracy),
    )
}

__all__ = ["MEASURES", "Measure", "Outcomes", "Statistic", "bootstrap_interval"]
