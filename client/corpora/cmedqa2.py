"""cMedQA2: Chinese questions with answers, and candidate answers to rank (Zhang et al. 2018).

``question.csv``, ``answer.csv`` and ``{train,dev,test}_candidates.txt``, which are CSV too; each perhaps in a zip of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part, question_and_answer
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_QUESTION, _ANSWER = ("question_id", "content"), ("ans_id", "question_id", "content")
_TRAIN, _RANKED = ("question_id", "pos_ans_id", "neg_ans_id"), ("question_id", "ans_id", "cnt", "label")
_OWN = (_ANSWER, _TRAIN, _RANKED)


class CMedQA2(TextCorpus):
    """The unit is the question. Its answers are one record each, its candidates one for each run of their rows.

    Questions of the test part are held out, also where their answers stand in ``answer.csv``.
    """

    name: ClassVar[str] = "cmedqa2"
    title: ClassVar[str] = "cMedQA2, answers to rank (Zhang et al. 2018)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("zh",)
    licence: ClassVar[str] = "GPL-3.0; research only"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "candidates"})
    required: ClassVar[tuple[str, ...]] = ("answer.csv (ans_id,question_id,content) beside question.csv",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`; questions alone are no records."""
        return file.base.endswith((".csv", ".txt")) and _header(file) in _OWN

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        questions = {cells[0]: cells[1].strip() for _, cells in _rows(_beside(file, "question.csv"), _QUESTION)}
        if _header(file) == _ANSWER:
            yield from _answers(file, questions, drops)
        else:
            yield from _candidates(file, questions, drops)


def _header(file: File) -> tuple[str, ...]:
    line = file.head(128).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0]
    return tuple(cell.strip().strip('"') for cell in line.decode("utf-8", "replace").split(","))


def _beside(file: File, name: str) -> File:
    found = file.near(name)
    if found is None:
        fix = "Put all files of the set in one folder; they may stay in their zips."
        raise DataError(f"{file.name} has no {name} beside it.", code="FW-DATA-032", fix=fix)
    return found


def _rows(file: File, header: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    if _header(file) != header:
        raise DataError(f"{file.name} does not begin with {','.join(header)}.", code="FW-DATA-032")
    rows = file.rows()
    next(rows)
    for line, cells in rows:
        if len(cells) != len(header):
            words = f"The row that ends on line {line:,} of {file.name} has {len(cells)} cells, not {len(header)}."
            raise DataError(words, code="FW-DATA-032")
        yield line, cells


def _answers(file: File, questions: dict[str, str], drops: Drops) -> Iterator[Item]:
    test = file.near("test_candidates.txt")
    held_out = set() if test is None else {cells[0] for _, cells in _rows(test, _RANKED)}
    answered = set()
    for line, (_, question, content) in _rows(file, _ANSWER):
        if question not in questions:
            drops.add(file.name, "answer of a question that is not in question.csv", row=line)
            continue
        answered.add(question)
        texts = {"question": questions[question], "answer": content.strip()}
        if question_and_answer(texts, file, drops, line):
            yield Item(question, language="zh", texts=texts, held_out=question in held_out)
    drops.add(file.name, "question without an answer", len(questions.keys() - answered), expected=True)


def _candidates(file: File, questions: dict[str, str], drops: Drops) -> Iterator[Item]:
    header = _header(file)
    answers = {cells[0]: cells[2].strip() for _, cells in _rows(_beside(file, "answer.csv"), _ANSWER)}
    for question, rows in groupby(_rows(file, header), key=lambda row: row[1][0]):
        listed = list(rows)
        line, right, found = listed[0][0], set[str](), set[str]()
        for _, cells in listed:
            found.update(cells[1:3] if header == _TRAIN else cells[1:2])
            if header == _TRAIN or cells[3].strip() == "1":
                right.add(cells[1])
        options = {key: answers[key] for key in sorted(found) if answers.get(key)}
        drops.add(file.name, "candidate that is not in answer.csv", len(found) - len(options), line)
        if not questions.get(question):
            drops.add(file.name, "question that is not in question.csv", row=line)
        elif not right & options.keys():
            drops.add(file.name, "question without a right answer", row=line)
        else:
            yield Item(
                question,
                language="zh",
                texts={"question": questions[question]},
                options=options,
                right=" ".join(sorted(right & options.keys())),
                held_out=of_test_part(file),
            )
