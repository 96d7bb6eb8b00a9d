"""PubMedQA: research questions with an abstract's findings, answered yes, no or maybe (Jin et al., EMNLP 2019).

The expert-labelled part as published: ``ori_pqal.json``, one object by PubMed id, and beside it, if present,
``test_ground_truth.json`` with the ids of the official test part, which never train. Its questions are of no person.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedward.client.corpora.corpus import Corpus, Item
from fedward.client.data.columns import Drops
from fedward.errors import DataError

DECISIONS = {word: word for word in ("yes", "no", "maybe")}
QUESTIONS, TEST_PART = "ori_pqal.json", "test_ground_truth.json"


class PubMedQA(Corpus):
    """The published JSON files. A record without decision is read and has no label."""

    name = "pubmedqa"
    title = "PubMedQA, expert-labelled (Jin et al. 2019)"
    unit = "question"
    licence = "MIT"
    free_text_of_persons = False
    gives = frozenset({"question", "context", "decision", "answer", "options"})
    required = (QUESTIONS,)

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`Corpus.missing`."""
        if not folder.exists():
            raise DataError(f"The data folder '{folder}' does not exist.", code="FW-DATA-011")
        return [name for name in self.required if not (_parent(folder) / name).is_file()]

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`."""
        folder, names = _parent(folder), (QUESTIONS, TEST_PART)
        return {name: len(_objects(folder / name)) for name in names if (folder / name).is_file()}

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`Corpus.items`; sorted by PubMed id."""
        folder = _parent(folder)
        held_out = _objects(folder / TEST_PART).keys() if (folder / TEST_PART).is_file() else frozenset()
        for key, record in sorted(_objects(folder / QUESTIONS).items()):
            texts = _texts(record)
            right = texts["decision"] if texts["decision"] in DECISIONS else ""
            yield Item(key, language="en", texts=texts, options=DECISIONS, right=right, held_out=key in held_out)


def _parent(path: Path) -> Path:
    """The folder of the set, where its file of questions is named alone."""
    return path.parent if path.is_file() and path.name == QUESTIONS else path


def _texts(record: Any) -> dict[str, str]:
    """Texts by role. The annotators' guesses (``reasoning_*_pred``) are not read."""
    if not isinstance(record, dict):
        raise DataError(f"A record of {QUESTIONS} is not an object.", code="FW-DATA-032")
    contexts = record.get("CONTEXTS")
    if not isinstance(contexts, list) or not all(isinstance(part, str) for part in contexts):
        raise DataError(f"A record of {QUESTIONS} has no list of texts CONTEXTS.", code="FW-DATA-032")
    found = {"context": "\n".join(contexts)}
    for role, key in (("question", "QUESTION"), ("decision", "final_decision"), ("answer", "LONG_ANSWER")):
        value = record.get(key) or ""
        if not isinstance(value, str) or (role == "question" and not value):
            raise DataError(f"A record of {QUESTIONS} has no text {key}.", code="FW-DATA-032")
        found[role] = value
    return found


def _objects(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises FW-DATA-005 (not UTF-8, or not JSON), FW-DATA-032 (not one object)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        fix = "Use the file as its authors published it: JSON in UTF-8."
        raise DataError(f"The file {path.name} cannot be read as JSON.", code="FW-DATA-005", fix=fix) from error
    if not isinstance(value, dict):
        raise DataError(f"The file {path.name} is not one object by PubMed id.", code="FW-DATA-032")
    return value
