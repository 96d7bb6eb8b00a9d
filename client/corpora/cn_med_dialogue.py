"""Chinese medical dialogue data: patients' questions to a doctor of a department (Toyhom 2019).

CSV of department, title, ask and answer as published, in GB18030, which has to be converted; or JSON of the same
fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, records, unit_of
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_KEYS = ("department", "title", "ask", "answer")
_NOTHING = ("", "无", "无。", "暂无")


class CnMedDialogue(TextCorpus):
    """The unit is the question; groups are the departments. Who asked twice cannot be told."""

    name: ClassVar[str] = "cn-med-dialogue"
    title: ClassVar[str] = "Chinese medical dialogue data (Toyhom 2019)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("zh",)
    licence: ClassVar[str] = "MIT"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"title", "question", "answer"})
    grouped: ClassVar[bool] = True
    grouped_by: ClassVar[str] = "department"
    required: ClassVar[tuple[str, ...]] = ("CSV or JSON of department, title, ask and answer",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return _is_table(file) or begins(file, *_KEYS) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        found = _rows(file, drops) if _is_table(file) else records(file, _KEYS, "a question of the set")
        for row, where, record in found:
            title, asked = text_of(record, "title", where), text_of(record, "ask", where)
            texts = {
                "title": title,
                "question": title if asked in _NOTHING else asked,
                "answer": text_of(record, "answer", where),
            }
            if question_and_answer(texts, file, drops, row):
                group = text_of(record, "department", where, empty=False)
                yield Item(unit_of(texts["question"]), group, "zh", texts, held_out=of_test_part(file))


def _is_table(file: File) -> bool:
    header = file.head(128).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].strip()
    return file.base.endswith(".csv") and header == ",".join(_KEYS).encode()


def _rows(file: File, drops: Drops) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    rows = file.rows()
    next(rows)
    for line, cells in rows:
        if len(cells) == len(_KEYS):
            yield line, f"The row that ends on line {line:,} of {file.name}", dict(zip(_KEYS, cells, strict=True))
        else:
            drops.add(file.name, "row has not four cells", row=line)
