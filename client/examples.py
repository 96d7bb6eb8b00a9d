"""Examples of a folder: what a task takes from it, as a model reads it. Start of every use of data."""

from collections.abc import Sequence
from pathlib import Path

from fedward.client.corpora import corpus_named, locate
from fedward.client.corpora.excluding import excluding
from fedward.client.data.drops import MOST_DROPPED
from fedward.client.data.example import Example, fixed_records, split_patients
from fedward.client.data.exclusions import Exclusions
from fedward.client.tasks import local_task
from fedward.errors import DataError
from fedward.plan import Plan


def load_examples(
    path: Path,
    *,
    format: str,
    task: str,
    leave_out: bool = False,
    every: bool = False,
    exclude: Path | None = None,
    mapping: Path | None = None,
    unread: bool = False,
    counted: bool = False,
    scored_only: bool = False,
    most_dropped: float = MOST_DROPPED,
) -> list[Example]:
    """The records that ``task`` takes from the folder of the corpus ``format``, in the order of their units.

    For ``leave_out``, ``scored_only`` and ``most_dropped`` see :meth:`LocalTask.examples`, for ``every``
    :meth:`Source.labelled`. ``exclude`` lists persons who have opted out, see :class:`Exclusions`. ``mapping`` is the
    mapping file of the corpus ``mapped``, where it does not lie in the folder. ``unread`` leaves the texts empty, and
    does not read them. So does ``counted``, which adds what statistics count; records of one label are no reason for it
    to stop.

    Raises ConfigError FW-CONFIG-040 (there is no such task), DataError (unknown format, unusable files, a corpus that
    does not hold what the task predicts), FW-DATA-006 (no eligible record), FW-DATA-007 (one label only), FW-DATA-019
    (too much cannot be used), FW-DATA-070, FW-DATA-071 (the list cannot be used).
    """
    corpus, excluded = corpus_named(format, mapping=mapping), None if exclude is None else Exclusions.read(exclude)
    folder, local = locate(path, corpus), local_task(task)
    if excluded is not None:
        corpus = excluding(corpus, excluded)
    if counted:
        examples = local.counted(corpus, folder, every=every, most_dropped=most_dropped)
    elif unread:
        examples = [each.example("") for each in local.labelled(corpus, folder, every=every)]
    else:
        how = {"leave_out": leave_out, "every": every, "scored_only": scored_only}
        examples = local.examples(corpus, folder, most_dropped=most_dropped, **how)
    if excluded is not None:
        excluded.check()
    if not examples:
        raise DataError(f"No record in the folder is eligible for the task {task!r}.", code="FW-DATA-006")
    if local.has_labels and not counted and len({example.label for example in examples}) < 2:
        raise DataError(f"All eligible records have the same label of the task {task!r}.", code="FW-DATA-007")
    return examples


def split_for(plan: Plan, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Training and evaluation records of ``plan``, see :func:`split_patients`; those that train as it chooses."""
    train, evaluation = split_patients(examples, evaluation_fraction=plan.evaluation_fraction, salt=plan.split_salt)
    return training_records(plan, train), evaluation


def training_records(plan: Plan, train: Sequence[Example]) -> list[Example]:
    """The records of training units that ``plan`` lets take part: all, or those that it fixes for the run."""
    if plan.privacy.records_chosen == "fixed":
        return fixed_records(train, most=plan.privacy.records_per_unit, salt=plan.split_salt)
    return list(train)
