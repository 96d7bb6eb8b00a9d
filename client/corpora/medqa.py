"""MedQA: questions of medical licensing exams of the United States and China (Jin et al. 2021).

JSON lines with four or five options by letter, in the parts train, dev and test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import labels_of, of_test_part
from fedward.client.corpora.questions import begins, options_of, records, unit_of, whole_choice
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_KEYS = ("question", "options", "answer_idx", "meta_info")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class MedQA(TextCorpus):
    """The unit is the question. A letter whose option is not the answer beside it is counted."""

    name: ClassVar[str] = "medqa"
    title: ClassVar[str] = "MedQA, licensing exams (Jin et al. 2021)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("en", "zh")
    licence: ClassVar[str] = "MIT"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "options", "labels"})
    required: ClassVar[tuple[str, ...]] = ("JSON with question, options, answer_idx and meta_info",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return begins(file, *_KEYS) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, where, record in records(file, _KEYS, "a question of MedQA"):
            question, options = text_of(record, "question", where), options_of(record["options"], where)
            right, answer = text_of(record, "answer_idx", where), text_of(record, "answer", where)
            if not whole_choice(question, options, right, file, drops, row):
                continue
            if right and answer and answer != options[right]:
                drops.add(file.name, "letter and answer do not agree", row=row)
                continue
            yield Item(
                unit_of(question),
                language="zh" if _CHINESE.search(question) else "en",
                texts={"question": question},
                options=options,
                right=right,
                labels=labels_of(record, ("meta_info",)),
                held_out=of_test_part(file),
            )
