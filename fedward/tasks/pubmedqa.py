"""PubMedQA: yes, no or maybe to a research question, from the findings of an abstract (Jin et al., EMNLP 2019)."""

from fedward.measures.bounded_mean import Accuracy, MeanLoss
from fedward.tasks.task import Head, Task

CLASSES = ("yes", "no", "maybe")

TASK = Task(
    name="pubmedqa",
    version=1,
    outcome="the answer to a research question",
    purpose="whether the findings of a study answer its question with yes, no or maybe",
    head=Head(outputs=len(CLASSES)),
    measures=(Accuracy(), MeanLoss(bound=4.0)),
    classes=CLASSES,
)
