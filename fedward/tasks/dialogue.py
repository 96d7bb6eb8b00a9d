"""Dialogue: what the assistant says, turn by turn."""

from fedward.measures.token_loss import Perplexity, RecordLoss, TokenLoss
from fedward.tasks.task import Head, Task

TASK = Task(
    name="dialogue",
    version=1,
    outcome="what is said next in a dialogue",
    purpose="what the assistant says next in a dialogue, word by word; the model can then write replies",
    head=Head("causal"),
    measures=(RecordLoss(bound=8.0), TokenLoss(), Perplexity()),
    loss_bound=8.0,
)
