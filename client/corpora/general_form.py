"""General forms: JSON files of a hospital or a publisher that are told by their keys alone. No torch.

They stand last in the registry, after every published set. Records that name persons are of these: a person's records
are one unit. So each form is two corpora, and a file whose records name persons is never read as one of nobody.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.questions import is_json
from fedward.client.corpora.text_corpus import TextCorpus, first_record, person_of
from fedward.client.data.documents import File, files
from fedward.client.data.drops import Drops
from fedward.client.data.text import language_of
from fedward.errors import DataError

_LANGUAGE_TOLD_BY = 2_000


class GeneralForm(TextCorpus):
    """A form of records.

    Attributes:
        of_persons: whether the corpus is of the records that name persons.
    """

    languages: ClassVar[tuple[str, ...]] = ("und",)
    licence: ClassVar[str] = "own"
    free_text_of_persons: ClassVar[bool] = True
    of_persons: ClassVar[bool] = False

    @abstractmethod
    def fits(self, record: Any) -> bool:
        """Whether a record has this form, from its keys."""

    @abstractmethod
    def parse(self, record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
        """The record, of a unit known by its words; none, and counted, where it cannot be used."""

    def person(self, record: Mapping[str, Any]) -> str | None:
        """See :func:`person_of`."""
        return person_of(record)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        first = first_record(file) if is_json(file) else None
        return first is not None and self.fits(first) and (self.of_persons or self.person(first) is None)

    def missing(self, folder: Path) -> list[str]:
        """See :meth:`TextCorpus.missing`; with persons, some file must name them."""
        named = (file for file in files(folder) if (self.names_persons(file) if self.of_persons else self.owns(file)))
        return [] if any(True for _ in named) else list(self.required)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, record in file.json():
            where = f"Record {row:,} of {file.name}"
            if not self.fits(record):
                raise DataError(f"{where} has not the form of the first: {self.required[0]}.", code="FW-DATA-032")
            person = self.person(record)
            if self.of_persons and not person:
                drops.add(file.name, "without a person", row=row)
                continue
            if person and not self.of_persons:
                fix = "Give every record the person's key, with null where it is of nobody."
                raise DataError(f"{where} names a person, the first one does not.", code="FW-DATA-032", fix=fix)
            for item in self.parse(record, where, file, drops, row):
                words = " ".join((*item.texts.values(), *(turn.text for turn in item.turns)))
                language = language_of(words[:_LANGUAGE_TOLD_BY], "und")
                yield replace(item, unit=person or item.unit, language=language)

    def names_persons(self, file: File) -> bool:
        """Whether a file is of this form and its first record has the key of a person."""
        first = first_record(file) if is_json(file) else None
        return first is not None and self.fits(first) and self.person(first) is not None
