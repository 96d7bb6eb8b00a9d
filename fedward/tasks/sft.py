"""Supervised fine-tuning: answers to questions and instructions (Ouyang et al. 2022, section 3.1)."""

from fedward.measures.token_loss import Perplexity, RecordLoss, TokenLoss
from fedward.tasks.task import Head, Task

TASK = Task(
    name="sft",
    version=1,
    outcome="the answer to a question",
    purpose="how the answer to a question goes on, word by word; the model can then write answers",
    head=Head("causal"),
    other_heads=(Head("seq2seq"),),
    measures=(RecordLoss(bound=8.0), TokenLoss(), Perplexity()),
    loss_bound=8.0,
)
