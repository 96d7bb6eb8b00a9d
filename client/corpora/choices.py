"""Choices: multiple-choice questions as JSON, under the usual names of question, options and the right one; of nobody.

The right one is a letter, the text of an option, or a number. Numbers tell by those that occur in a file whether they
count from zero or from one; a file that does not tell is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import (
    first_number,
    is_json,
    options_of,
    unclear,
    unit_of,
    whole_choice,
)
from fedward.client.corpora.text_corpus import TextCorpus, first_record, person_of, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.client.data.text import language_of
from fedward.errors import DataError
from fedward.units import UnitName

_OPTIONS, _RIGHT = ("options", "choices"), ("answer_idx", "answer_index", "answerKey", "label", "answer", "correct")
_NOBODY_TELLS = -1
_CONTRADICTION = "\0"
_LANGUAGE_TOLD_BY = 2_000


class Choices(TextCorpus):
    """The unit is the question. A key ``subject`` is a subject here, not a person."""

    name: ClassVar[str] = "choices"
    title: ClassVar[str] = "Choices (JSON of multiple choice)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("und",)
    licence: ClassVar[str] = "not stated"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "options"})
    required: ClassVar[tuple[str, ...]] = ("JSON with question, options and answer_idx",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        first = first_record(file) if is_json(file) else None
        return _fits(first)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; the file is read twice, the first time for its numbers alone."""
        found = ((number, len(options)) for _, _, options, number, _ in _records(file) if isinstance(number, int))
        numbers = {(number, count) for number, count in found if number != _NOBODY_TELLS}
        base = first_number(numbers, file.name, _RIGHT[0])
        if numbers and base is None:
            raise unclear(file.name, _RIGHT[0])
        for row, question, options, told, test in _records(file):
            right = told if isinstance(told, str) else _letter(told, base or 0, options)
            if right == _CONTRADICTION:
                drops.add(file.name, "answers under several keys do not agree", row=row)
            elif whole_choice(question, options, right, file, drops, row):
                words = " ".join((question, *options.values()))[:_LANGUAGE_TOLD_BY]
                yield Item(
                    unit_of(question),
                    language=language_of(words, "und"),
                    texts={"question": question},
                    options=options,
                    right=right,
                    held_out=test,
                )


def _fits(record: Any) -> bool:
    return isinstance(record, Mapping) and "question" in record and any(key in record for key in _OPTIONS)


def _person(record: Mapping[str, Any]) -> str | None:
    return person_of({key: value for key, value in record.items() if key.lower() != "subject"})


def _records(file: File) -> Iterator[tuple[int, str, dict[str, str], str | int, bool]]:
    """Number, question, options, right answer and whether it is of the test part; of each record.

    The right answer is a letter, or a number whose base is not known.
    """
    for row, record in file.json():
        where = f"Record {row:,} of {file.name}"
        if not _fits(record):
            raise DataError(f"{where} has no question with options.", code="FW-DATA-032")
        if _person(record):
            fix = "Give records of persons as question and answer, each with its person's key."
            raise DataError(f"{where} names a person; multiple choice is of nobody.", code="FW-DATA-032", fix=fix)
        options = options_of(next(record[key] for key in _OPTIONS if key in record), where)
        question, right = text_of(record, "question", where), _right(record, options, where)
        yield row, question, options, right, of_test_part(file, record)


def _right(record: Mapping[str, Any], options: Mapping[str, str], where: str) -> str | int:
    """The right answer's letter, its number, or ``""`` where nobody tells; what is none of these is kept as it is.

    JSON's numbers are places among the options, also where an option's text is the same number. A letter beside the
    text of another option is none.
    """
    places, letters, others = list[int](), set[str](), list[str]()
    for key in _RIGHT:
        value = record.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # pandas
        text = text_of({key: value}, key, where)
        if not text:
            continue
        same = [each for each, words in options.items() if words == text]
        if isinstance(value, int) and str(value) not in options:
            places.append(value)
        elif letter := next((each for each in (text, text.upper()) if each in options), None):
            letters.add(letter)
        elif len(same) == 1:
            letters.add(same[0])
        elif text.lstrip("-").isdecimal() and len(text) < 10:
            places.append(int(text))
        else:
            others.append(text)
    if len(letters) > 1 or len(set(places)) > 1:
        return _CONTRADICTION
    if letters and places and list(options).index(next(iter(letters))) not in (places[0], places[0] - 1):
        return _CONTRADICTION
    return next(iter(letters), None) or (places[0] if places else next(iter(others), ""))


def _letter(number: int, base: int, options: Mapping[str, str]) -> str:
    place = number - base
    if number == _NOBODY_TELLS:
        return ""
    return list(options)[place] if 0 <= place < len(options) else "?"
