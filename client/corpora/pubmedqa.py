"""PubMedQA: research questions with an abstract's findings, answered yes, no or maybe (Jin et al., EMNLP 2019).

The expert-labelled part as published: ``ori_pqal.json``, one object by PubMed id, and beside it, if present,
``test_ground_truth.json`` with the ids of the official test part, which never train. Its questions are of no person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File, files
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

DECISIONS = {word: word for word in ("yes", "no", "maybe")}
QUESTIONS, TEST_PART = "ori_pqal.json", "test_ground_truth.json"


class PubMedQA(TextCorpus):
    """The published JSON files. A record without decision is read and has no label."""

    name: ClassVar[str] = "pubmedqa"
    title: ClassVar[str] = "PubMedQA, expert-labelled (Jin et al. 2019)"
    unit: ClassVar[UnitName] = "question"
    licence: ClassVar[str] = "MIT"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "context", "decision", "answer", "options"})
    required: ClassVar[tuple[str, ...]] = (QUESTIONS,)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base == QUESTIONS

    def sizes(self, folder: Path) -> dict[str, int]:
        """See :meth:`Corpus.sizes`; with the identifiers of the test part."""
        found = [each for file in self.own_files(folder) for each in (file, _test_part(file)) if each is not None]
        return {file.name: len(_object(file)) for file in found}

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; sorted by PubMed id."""
        test, records = _test_part(file), _object(file)
        held_out = {} if test is None else _object(test)
        for row, key in sorted(enumerate(records, 1), key=lambda each: each[1]):
            texts = _texts(records[key], f"Record {row:,} of {file.name}")
            told = held_out.get(key)
            if texts["decision"] and told in DECISIONS and told != texts["decision"]:
                drops.add(file.name, f"decision contradicts {TEST_PART}", row=row)
                continue
            right = texts["decision"]
            yield Item(key, language="en", texts=texts, options=DECISIONS, right=right, held_out=key in held_out)
        if test is not None:
            drops.add(test.name, "identifier without a record", len(held_out.keys() - records.keys()), expected=True)


def _test_part(file: File) -> File | None:
    """The identifiers of the test part; also where the file of questions was named alone."""
    beside = file.path.with_name(TEST_PART) if file.path is not None else None
    return file.near(TEST_PART) or (files(beside)[0] if beside is not None and beside.is_file() else None)


def _texts(record: Any, where: str) -> dict[str, str]:
    """Texts by role. The annotators' guesses (``reasoning_*_pred``) are not read."""
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is not an object.", code="FW-DATA-032")
    contexts = record.get("CONTEXTS")
    if not isinstance(contexts, list) or not all(isinstance(part, str) for part in contexts):
        raise DataError(f"{where} has no list of texts CONTEXTS.", code="FW-DATA-032")
    decision = text_of(record, "final_decision", where).lower()
    if decision and decision not in DECISIONS:
        raise DataError(f"{where}: 'final_decision' is none of yes, no and maybe.", code="FW-DATA-032")
    return {
        "context": "\n".join(contexts),
        "question": text_of(record, "QUESTION", where, empty=False),
        "decision": decision,
        "answer": text_of(record, "LONG_ANSWER", where),
    }


def _object(file: File) -> Mapping[str, Any]:
    """The object in a JSON file; raises FW-DATA-005 (not UTF-8, or not JSON), FW-DATA-032 (not one object)."""
    values = [value for _, value in file.json()]
    if len(values) != 1 or not isinstance(values[0], Mapping):
        raise DataError(f"The file {file.name} is not one object by PubMed id.", code="FW-DATA-032")
    return values[0]
