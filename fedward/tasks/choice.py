"""Choice: the right one of a question's options, as a language model finds each likely (Brown et al. 2020, 2.4)."""

from fedward.measures.bounded_mean import Accuracy, MeanLoss, NormalisedAccuracy
from fedward.tasks.task import Head, Task

TASK = Task(
    name="choice",
    version=1,
    outcome="the right answer to a multiple-choice question",
    purpose="which of a question's options is right, as the one that it would write with the highest probability",
    head=Head("causal"),
    measures=(Accuracy(), MeanLoss(bound=4.0), NormalisedAccuracy()),
)
