"""Examples of a folder: what a task takes from it, as a model reads it. Start of every use of data."""

from pathlib import Path

from fedward.client.corpora import corpus_named, locate
from fedward.client.data.columns import MOST_DROPPED
from fedward.client.data.example import Example
from fedward.client.tasks import local_task
from fedward.errors import DataError


def load_examples(
    path: Path, *, format: str, task: str, leave_out: bool = False, most_dropped: float = MOST_DROPPED
) -> list[Example]:
    """The records that ``task`` takes from the folder of the corpus ``format``, in the order of their units.

    For ``leave_out`` and ``most_dropped`` see :meth:`LocalTask.examples`.

    Raises ConfigError FW-CONFIG-040 (there is no such task), DataError (unknown format, unusable files, a corpus that
    does not hold what the task predicts), FW-DATA-006 (no eligible record), FW-DATA-007 (one label only), FW-DATA-019
    (too much cannot be used).
    """
    corpus = corpus_named(format)
    examples = local_task(task).examples(corpus, locate(path, corpus), leave_out=leave_out, most_dropped=most_dropped)
    if not examples:
        raise DataError(f"No record in the folder is eligible for the task {task!r}.", code="FW-DATA-006")
    if len({example.label for example in examples}) < 2:
        raise DataError(f"All eligible records have the same label of the task {task!r}.", code="FW-DATA-007")
    return examples
