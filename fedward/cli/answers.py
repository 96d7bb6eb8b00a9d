"""Answers that a model wrote, from a file or from a model at once, beside reference answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedward.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedward.cli.evaluate import Scored

_WRITTEN = ("generated", "prediction", "hypothesis")
_REFERENCES = ("reference", "references", "answer", "output", "completion", "response")


def score_file(path: Path, measures: Sequence[str], *, details: bool) -> dict[str, Any]:
    """Measures of a file of records with ``generated`` and ``answer``, as ``fedward generate`` writes it.

    Raises FW-DATA-006 (there is no record), FW-DATA-032 (a record lacks one of the two).
    """
    from fedward.client.text_measures import Answers, text_scores

    rows = [_pair(record, f"Record {row:,}") for row, record in records_of(path)]
    if not rows:
        raise DataError(f"{path} holds no answer.", code="FW-DATA-006")
    scores, each = text_scores(Answers([said for said, _ in rows], [right for _, right in rows]), measures)
    return scores | ({"details": [{"record": n, **row} for n, row in enumerate(each, 1)]} if details else {})


def score_generated(
    scored: Scored, data: Path, measures: Sequence[str], *, details: bool, longest: int, **options: Any
) -> dict[str, Any]:
    """Lets a model answer every record of ``data`` greedily, and measures the answers beside the records' own.

    ``longest`` is the limit of an answer in tokens. Raises FW-CONFIG-043 (its task has no answers to write).
    """
    from fedward.cli.generate import Pen
    from fedward.client.generation import Sampling
    from fedward.client.tasks.language import Conversation
    from fedward.client.text_measures import Answers, text_scores

    if not isinstance(scored.task, Conversation):
        told = f"Records of the task {scored.task.declaration.name!r} have no answers that a model could write."
        raise ConfigError(told, code="FW-CONFIG-043")
    pen = Pen(scored, Sampling(max_new_tokens=longest))
    asked = [scored.task.last_answer(example) for example in scored.examples(data, **options)]
    written = [pen.write(turns) for turns, _ in asked]
    scores, each = text_scores(Answers([one.text for one in written], [[right] for _, right in asked]), measures)
    scores["ended"] = sum(one.ended for one in written)
    if details:
        rows = zip(written, each, strict=True)
        scores["details"] = [{"record": n, "generated": one.text, **row} for n, (one, row) in enumerate(rows, 1)]
    return scores


def records_of(path: Path) -> Iterator[tuple[int, Any]]:
    """The records of one file of JSON with their numbers; raises FW-DATA-011 (there is no such file)."""
    from fedward.client.data.documents import files

    found = files(path)
    if len(found) != 1:
        fix = "Give the path of one file of JSON lines."
        raise DataError(f"{path} is not one file of records.", code="FW-DATA-011", fix=fix)
    yield from found[0].json()


def _pair(record: Any, where: str) -> tuple[str, list[str]]:
    said, right = (
        next((record[key] for key in keys if key in record), None) if isinstance(record, Mapping) else None
        for keys in (_WRITTEN, _REFERENCES)
    )
    references: list[Any] = right if isinstance(right, list) else [right]
    if not isinstance(said, str) or not references or not all(isinstance(text, str) for text in references):
        told = f"{where} has no text under 'generated', or none under 'answer'."
        fix = "Write the model's text under 'generated' and the reference under 'answer', as `fedward generate` does."
        raise DataError(told, code="FW-DATA-032", fix=fix)
    return said, references
