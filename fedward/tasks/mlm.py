"""Masked language modelling: hidden tokens of running text (Devlin et al. 2019, section 3.1)."""

from fedward.measures.token_loss import RecordLoss, TokenLoss
from fedward.tasks.task import Head, Task

TASK = Task(
    name="mlm",
    version=1,
    outcome="hidden words of a text",
    purpose="which words were hidden in a text; an encoder then knows the language of such texts",
    head=Head("masked"),
    measures=(RecordLoss(bound=8.0), TokenLoss()),
    loss_bound=8.0,
)
