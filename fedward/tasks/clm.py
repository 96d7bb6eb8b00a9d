"""Causal language modelling: the next token of running text (Radford et al. 2018, equation 1)."""

from fedward.measures.token_loss import CharacterLoss, Perplexity, RecordLoss, TokenLoss
from fedward.tasks.task import Head, Task

TASK = Task(
    name="clm",
    version=1,
    outcome="the next word of a text",
    purpose="how a text goes on, word by word; the model can then write such texts",
    head=Head("causal"),
    measures=(CharacterLoss(bound=4.0), RecordLoss(bound=8.0), TokenLoss(), Perplexity()),
    loss_bound=8.0,
)
