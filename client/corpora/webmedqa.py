"""webMedQA: Chinese questions of patients, each with one chosen and four other answers (He et al. 2019).

``medQA.{train,valid,test}.txt``, perhaps in zips: five fields between tabs without a header, department, 1 for the
right answer or 0, identifier of the question, question, answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_FIRST = re.compile(rb"(?:\xef\xbb\xbf)?[^\t\n]+\t[01]\t\w+\t[^\t\n]+\t[^\t\n]+\r?\n")


class WebMedQA(TextCorpus):
    """The unit is the question; groups are the departments."""

    name: ClassVar[str] = "webmedqa"
    title: ClassVar[str] = "webMedQA, answers to rank (He et al. 2019)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("zh",)
    licence: ClassVar[str] = "not stated"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "candidates"})
    grouped: ClassVar[bool] = True
    grouped_by: ClassVar[str] = "department"
    required: ClassVar[tuple[str, ...]] = ("medQA.{train,valid,test}.txt: five fields between tabs",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base.endswith(".txt") and _FIRST.match(file.head()) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; the candidates of a question stand on lines that follow each other."""
        for unit, lines in groupby(_lines(file, drops), key=lambda each: each[1][2]):
            found = list(lines)
            line, (group, _, _, question, _) = found[0]
            options = {str(place): cells[4] for place, (_, cells) in enumerate(found, 1) if cells[4]}
            right = [str(place) for place, (_, cells) in enumerate(found, 1) if cells[1] == "1" and cells[4]]
            if not question or not right:
                drops.add(file.name, "question without words or without a right answer", row=line)
                continue
            yield Item(
                unit,
                group,
                "zh",
                {"question": question, "answer": options[right[0]]},
                options=options,
                right=" ".join(right),
                held_out=of_test_part(file),
            )


def _lines(file: File, drops: Drops) -> Iterator[tuple[int, list[str]]]:
    for number, line in file.lines():
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == 5 and cells[1] in ("0", "1") and cells[0] and cells[2]:
            yield number, cells
        elif line.strip():
            drops.add(file.name, "line has not department, 0 or 1, identifier, question and answer", row=number)
