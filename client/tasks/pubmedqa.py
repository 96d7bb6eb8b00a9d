"""PubMedQA at a site: question and findings as text, the experts' decision as class; the long answer is not read."""

from fedward.client.corpora.corpus import Item
from fedward.client.tasks.prediction import Multiclass
from fedward.client.tasks.source import TextSource
from fedward.tasks.pubmedqa import TASK


def label(item: Item) -> str | None:
    """Returns the decision; None for a question without one."""
    return item.texts["decision"] or None


LOCAL = Multiclass(TASK, TextSource("question", "context", label=label, needs=("decision",)))
