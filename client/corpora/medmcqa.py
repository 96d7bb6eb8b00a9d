"""MedMCQA: questions of Indian entrance exams by subject (Pal et al. 2022).

JSON with the options ``opa`` to ``opd``. ``cop`` numbers the right one from 1 in the published files and from 0 in
other copies under the same names. A file tells by the numbers that occur in it; one that does not tell is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import LETTERS, begins, first_number, records, unclear, unit_of, whole_choice
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_OPTIONS = ("opa", "opb", "opc", "opd")
_KEYS = ("question", *_OPTIONS)
_NOBODY_TELLS = -1


class MedMCQA(TextCorpus):
    """The unit is the question; groups are the subjects. Explanations are not read. The test part has no answers."""

    name: ClassVar[str] = "medmcqa"
    title: ClassVar[str] = "MedMCQA, entrance exams (Pal et al. 2022)"
    unit: ClassVar[UnitName] = "question"
    licence: ClassVar[str] = "Apache-2.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "options"})
    grouped: ClassVar[bool] = True
    grouped_by: ClassVar[str] = "subject"
    required: ClassVar[tuple[str, ...]] = ("JSON with question, opa, opb, opc, opd and cop",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return begins(file, *_KEYS) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; the file is read twice, the first time for its numbers alone."""
        numbers = {_number(record, where) for _, where, record in _records(file)} - {_NOBODY_TELLS}
        base = first_number(((number, len(_OPTIONS)) for number in numbers), file.name, "cop")
        if base is None and numbers:
            raise unclear(file.name, "cop")
        for row, where, record in _records(file):
            question, number = text_of(record, "question", where), _number(record, where)
            options = {letter: text_of(record, key, where) for letter, key in zip(LETTERS, _OPTIONS, strict=False)}
            right = "" if number == _NOBODY_TELLS else _letter(number - (base or 0))
            if whole_choice(question, options, right, file, drops, row):
                yield Item(
                    unit_of(question),
                    text_of(record, "subject_name", where) or "Unknown",
                    "en",
                    {"question": question},
                    options=options,
                    right=right,
                    held_out=of_test_part(file),
                )


def _records(file: File) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    return records(file, _KEYS, "a question of MedMCQA")


def _number(record: Mapping[str, Any], where: str) -> int:
    value = record.get("cop")
    text = text_of(record, "cop", where).removesuffix(".0")  # numbers as text, and as pandas writes them beside gaps
    if not text or text == str(_NOBODY_TELLS):
        return _NOBODY_TELLS
    if isinstance(value, bool) or not text.isdecimal():
        raise DataError(f"{where}: 'cop' is not a whole number.", code="FW-DATA-032")
    return int(text) if len(text) < 10 else len(LETTERS)


def _letter(place: int) -> str:
    return LETTERS[place] if 0 <= place < len(LETTERS) else "?"
