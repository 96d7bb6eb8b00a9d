"""MMLU: multiple choice by subject, of which several are medical (Hendrycks et al. 2021).

CSV without a header as published, ``test/anatomy_test.csv``: question, four options, letter. Or JSON with subject,
choices and a number from 0; a file in which the number after the last option occurs is refused. Every subject in the
folder is read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import (
    LETTERS,
    first_number,
    is_json,
    options_of,
    records,
    unit_of,
    whole_choice,
)
from fedward.client.corpora.text_corpus import TextCorpus, first_record, has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_NAME = re.compile(r"(\w+)_(?:dev|val|test)\.csv")
_KEYS = ("question", "subject", "choices", "answer")


class Mmlu(TextCorpus):
    """The unit is the question; groups are the subjects. The test part is held out."""

    name: ClassVar[str] = "mmlu"
    title: ClassVar[str] = "MMLU, multiple choice by subject (Hendrycks et al. 2021)"
    unit: ClassVar[UnitName] = "question"
    licence: ClassVar[str] = "MIT"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "options"})
    grouped: ClassVar[bool] = True
    grouped_by: ClassVar[str] = "subject"
    required: ClassVar[tuple[str, ...]] = ("{dev,val,test}/SUBJECT_{dev,val,test}.csv without a header",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if is_json(file):
            record = first_record(file)
            return has_keys(record, *_KEYS) and isinstance(record["choices"], list) and _is_place(record["answer"])
        if not _NAME.fullmatch(file.base):
            return False
        try:
            cells = next((cells for _, cells in file.rows()), [])
        except (DataError, csv.Error):
            return False
        return len(cells) == 6 and cells[5].strip() in ("A", "B", "C", "D")

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, group, question, options, right in _of_json(file) if is_json(file) else _of_csv(file):
            if whole_choice(question, options, right, file, drops, row):
                texts, held_out = {"question": question}, of_test_part(file)
                yield Item(unit_of(question), group, "en", texts, options=options, right=right, held_out=held_out)


Choice = tuple[int, str, str, dict[str, str], str]


def _of_csv(file: File) -> Iterator[Choice]:
    name = _NAME.fullmatch(file.base)
    for line, cells in file.rows():
        if len(cells) != 6:
            words = f"The row that ends on line {line:,} of {file.name} has {len(cells)} cells, not 6."
            raise DataError(words, code="FW-DATA-032")
        question, *options, right = (cell.strip() for cell in cells)
        yield line, name[1] if name else "", question, dict(zip(LETTERS, options, strict=False)), right


def _of_json(file: File) -> Iterator[Choice]:
    """The file is read twice, the first time for its numbers: one that counts from one is refused, see the module."""
    first_number(((answer, len(options)) for *_, options, answer in _numbered(file)), file.name, "answer", known=0)
    for row, group, question, options, answer in _numbered(file):
        yield row, group, question, options, LETTERS[answer] if answer < len(LETTERS) else "?"


def _numbered(file: File) -> Iterator[tuple[int, str, str, dict[str, str], int]]:
    for row, where, record in records(file, _KEYS, "a question of MMLU"):
        options, answer = options_of(record["choices"], where), record["answer"]
        if not _is_place(answer):
            raise DataError(f"{where}: 'answer' is not a number from 0.", code="FW-DATA-032")
        group = text_of(record, "subject", where) or "unknown"
        yield row, group, text_of(record, "question", where), options, answer


def _is_place(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
