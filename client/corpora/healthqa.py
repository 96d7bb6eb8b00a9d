"""HealthQA: Chinese health questions and answers of web sites, as a dump of two tables (Cui and Wang 2018).

``INSERT`` statements of ``post`` (the questions) and ``reply_post`` (the answers, ``reply_ID`` names the question). The
dump is read as text; identifiers are numbers filled with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import question_and_answer
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.client.data.sql import Row, inserted
from fedward.errors import DataError
from fedward.units import UnitName

_POST, _REPLY = "post", "reply_post"
_COLUMNS = {_POST: ("ID", "title", "content"), _REPLY: ("reply_ID", "content")}


class HealthQA(TextCorpus):
    """The unit is the question. The tables are joined in memory: questions first, since answers may stand before."""

    name: ClassVar[str] = "healthqa"
    title: ClassVar[str] = "HealthQA, Chinese health questions (Cui and Wang 2018)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("zh",)
    licence: ClassVar[str] = "not stated"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"title", "question", "answer"})
    required: ClassVar[tuple[str, ...]] = ("ishc_data.sql with the tables post and reply_post",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        head = file.head() if file.base.endswith(".sql") else b""
        return b"`post`" in head or b"`reply_post`" in head

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        posts = {}
        for _, line, row in inserted(file, (_POST,)):
            _check(row, _POST, line, file)
            title, content = ((row[key] or "").strip() for key in ("title", "content"))
            posts[_number(row["ID"])] = {"title": title, "question": content or title}
        answered = set()
        for _, line, row in inserted(file, (_REPLY,)):
            _check(row, _REPLY, line, file)
            key = _number(row["reply_ID"])
            if key not in posts:
                drops.add(file.name, "answer to a question that is not in the dump", row=line)
                continue
            answered.add(key)
            texts = {**posts[key], "answer": (row["content"] or "").strip()}
            if question_and_answer(texts, file, drops, line):
                yield Item(key, language="zh", texts=texts)
        drops.add(file.name, "question without an answer", len(posts.keys() - answered), expected=True)


def _check(row: Row, table: str, line: int, file: File) -> None:
    lacking = [column for column in _COLUMNS[table] if column not in row]
    if lacking:
        words = f"The row on line {line:,} of {file.name} has no column {', '.join(lacking)}."
        raise DataError(words, code="FW-DATA-032")


def _number(cell: str | None) -> str:
    """An identifier without the zeros that fill it."""
    return (cell or "").lstrip("0")
