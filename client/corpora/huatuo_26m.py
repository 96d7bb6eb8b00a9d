"""Huatuo-26M: Chinese medical questions and answers, in three shapes (Li et al. 2023).

Encyclopaedia and knowledge base: ``questions`` is a list of lists of paraphrases, or of questions, and ``answers`` a
list. Consultations: the same with web addresses for answers, which are counted. Lite: ``question``, ``answer``,
``label`` (the department), ``related_diseases``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import labels_of, of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, unit_of
from fedward.client.corpora.text_corpus import TextCorpus, check_nobody, has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_NESTED, _LITE = ("questions", "answers"), ("question", "answer", "label", "related_diseases")
_ADDRESS = re.compile(r"https?://\S+")


class Huatuo26M(TextCorpus):
    """The unit is the question, whose paraphrases and answers are one record each."""

    name: ClassVar[str] = "huatuo-26m"
    title: ClassVar[str] = "Huatuo-26M, Chinese medical questions (Li et al. 2023)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("zh",)
    licence: ClassVar[str] = "Apache-2.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "labels"})
    required: ClassVar[tuple[str, ...]] = ("JSON with questions and answers, or question, answer, label, ...",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        record = begins(file, *_NESTED)
        nested = record is not None and all(isinstance(record[key], list) for key in _NESTED)
        return nested or begins(file, *_LITE) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, record in file.json():
            where = f"Record {row:,} of {file.name}"
            if isinstance(record, Mapping):
                check_nobody(record, where)
            if has_keys(record, *_LITE):
                yield from _lite(record, where, file, drops, row)
            elif has_keys(record, *_NESTED):
                yield from _nested(record, where, file, drops, row)
            else:
                raise DataError(f"{where} is not a question of Huatuo-26M.", code="FW-DATA-032")


def _lite(record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
    texts = {role: text_of(record, role, where) for role in ("question", "answer")}
    if question_and_answer(texts, file, drops, row):
        labels = labels_of(record, ("label", "related_diseases"))
        unit, group = unit_of(texts["question"]), labels.get("label", "")
        yield Item(unit, group, "zh", texts, labels=labels, held_out=of_test_part(file))


def _nested(record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
    questions = [_texts(each if isinstance(each, list) else [each], where) for each in _list(record, 0, where)]
    answers = _texts(_list(record, 1, where), where)
    if len(questions) == 1:
        pairs = [(questions[0], answer) for answer in answers]
    elif len(answers) in (1, len(questions)):
        pairs = list(zip(questions, answers * (len(questions) if len(answers) == 1 else 1), strict=True))
    else:
        drops.add(file.name, "questions and answers do not pair", row=row)
        return
    if not pairs:
        drops.add(file.name, "answer is empty", row=row)
    for paraphrases, answer in pairs:
        if _ADDRESS.fullmatch(answer):
            drops.add(file.name, "answer is a web address", row=row, expected=True)
            continue
        unit = unit_of(next(filter(None, paraphrases), ""))
        for question in paraphrases or [""]:
            texts = {"question": question, "answer": answer}
            if question_and_answer(texts, file, drops, row):
                yield Item(unit, language="zh", texts=texts, held_out=of_test_part(file))


def _list(record: Mapping[str, Any], place: int, where: str) -> list[Any]:
    found = record[_NESTED[place]]
    if not isinstance(found, list):
        raise DataError(f"{where}: {_NESTED[place]!r} is not a list.", code="FW-DATA-032")
    return found


def _texts(found: list[Any], where: str) -> list[str]:
    return [text_of({"text": each}, "text", where) for each in found]
