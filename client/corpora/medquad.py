"""MedQuAD: questions and answers from sites of the National Institutes of Health (Ben Abacha et al. 2019).

XML in folders ``N_Name_QA`` as published, or JSON of the same fields. The answers of three folders were removed by
the publisher; such questions are counted and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lxml import etree

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import labels_of, of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, records
from fedward.client.corpora.text_corpus import TextCorpus, all_text, parse_xml, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_DOCUMENT = re.compile(rb"<Document\s[^>]*\bsource\s*=")
_FOLDER = re.compile(r"\d+_\w+_QA")
_KEYS = ("collection", "focus", "qtype", "question", "answer")


class MedQuad(TextCorpus):
    """The unit is the question, as it is asked; groups are the sites that the questions are of, topics their focus.

    The publisher's identifiers are not used: several questions of a document share one.
    """

    name: ClassVar[str] = "medquad"
    title: ClassVar[str] = "MedQuAD, questions of NIH sites (Ben Abacha et al. 2019)"
    unit: ClassVar[UnitName] = "question"
    licence: ClassVar[str] = "CC BY 4.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "labels"})
    grouped: ClassVar[bool] = True
    grouped_by: ClassVar[str] = "site"
    topic: ClassVar[str] = "focus"
    required: ClassVar[tuple[str, ...]] = ("N_Name_QA/*.xml with <Document source=...>, or JSON of the same fields",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if file.base.endswith(".xml"):
            return _DOCUMENT.search(file.head(1024)) is not None
        return begins(file, *_KEYS) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        return _of_xml(file, drops) if file.base.endswith(".xml") else _of_json(file, drops)


def _of_xml(file: File, drops: Drops) -> Iterator[Item]:
    root = parse_xml(file)
    if root.tag != "Document":
        raise DataError(f"The file {file.name} is not a document of MedQuAD.", code="FW-DATA-032")
    folders = [part for part in file.name.split("/") if _FOLDER.fullmatch(part)]
    group = folders[-1] if folders else root.get("source")
    pairs, focus = root.findall("QAPairs/QAPair"), root.find("Focus")
    if not pairs:
        drops.add(file.name, "document without questions", expected=True)
    for row, pair in enumerate(pairs, 1):
        question = pair.find("Question")
        if question is None:
            raise DataError(f"Question {row:,} of {file.name} is missing.", code="FW-DATA-032")
        record = {
            "focus": None if focus is None else all_text(focus),
            "qtype": question.get("qtype"),
            "question": all_text(question),
            "answer": _answer(pair.find("Answer")),
        }
        yield from _item({"collection": group, **record}, file, drops, row)


def _of_json(file: File, drops: Drops) -> Iterator[Item]:
    for row, _, record in records(file, _KEYS, "a question of MedQuAD"):
        yield from _item(record, file, drops, row)


def _item(record: Mapping[str, Any], file: File, drops: Drops, row: int) -> Iterator[Item]:
    where = f"Record {row:,} of {file.name}"
    group = text_of(record, "collection", where, empty=False)
    texts = {role: text_of(record, role, where) for role in ("question", "answer")}
    if question_and_answer(texts, file, drops, row, expected=True):  # two thirds were taken out for copyright
        unit = " ".join(texts["question"].split())
        topic, labels = " ".join(text_of(record, "focus", where).lower().split()), labels_of(record, ("qtype",))
        held_out, groups = of_test_part(file), {"focus": topic} if topic else {}
        yield Item(unit, group, "en", texts, labels=labels, held_out=held_out, groups=groups)


def _answer(answer: etree._Element | None) -> str:
    """Lines of an answer without the indentation of the page that they were taken from."""
    text = "" if answer is None else "".join(answer.itertext())
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
