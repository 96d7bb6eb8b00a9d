"""PubMedQA at a site: question and findings as text, the experts' decision as class; the long answer is not read."""

from fedward.client.tasks.prediction import Multiclass
from fedward.client.tasks.task import TextSource
from fedward.tasks.pubmedqa import TASK

LOCAL = Multiclass(
    TASK, TextSource("question", "context", label=lambda item: item.texts["decision"] or None, needs=("decision",))
)
