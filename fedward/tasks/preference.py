"""Preference: which of two answers to a prompt people chose, by how likely a language model thinks each.

The loss is that of Bradley and Terry (1952) on the answers' summed log-likelihoods.
"""

from fedward.measures.bounded_mean import Accuracy, MeanLoss, NormalisedAccuracy
from fedward.tasks.task import Head, Task

TASK = Task(
    name="preference",
    version=1,
    outcome="which of two answers people prefer",
    purpose="which of two answers people prefer, as the one that it would write with the higher probability",
    head=Head("causal"),
    measures=(Accuracy(), MeanLoss(bound=4.0), NormalisedAccuracy()),
)
