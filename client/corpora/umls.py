"""UMLS Metathesaurus: names of medical concepts by their code (CUI), from ``MRCONSO.RRF``, kinds from ``MRSTY.RRF``.

Files of a release have no header and no quotation marks, are sorted by CUI and are read side by side, line by line.
Suppressed names are left out. Terms depend on the user and on each source: an item's ``licence`` tells the strictest
restriction level among its names.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_LANGUAGES = {
    "ENG": "en", "CHI": "zh", "SPA": "es", "FRE": "fr", "GER": "de", "ITA": "it", "POR": "pt", "DUT": "nl",
    "JPN": "ja", "KOR": "ko", "RUS": "ru", "CZE": "cs", "POL": "pl", "SWE": "sv", "NOR": "no", "DAN": "da",
    "FIN": "fi", "HUN": "hu", "GRE": "el", "TUR": "tr", "UKR": "uk", "ARA": "ar", "HEB": "he", "EST": "et",
    "LAV": "lv", "BAQ": "eu", "SCR": "hr",
}  # fmt: skip
_NAMES, _KINDS = "mrconso.rrf", "mrsty.rrf"
_WIDTH = {_NAMES: 18, _KINDS: 6}


class Umls(TextCorpus):
    """A record for each concept and language: its preferred name (``title``) and all names, a line each (``text``)."""

    name: ClassVar[str] = "umls"
    title: ClassVar[str] = "UMLS Metathesaurus, names of concepts (MRCONSO)"
    unit: ClassVar[UnitName] = "document"
    languages: ClassVar[tuple[str, ...]] = tuple(_LANGUAGES.values())
    licence: ClassVar[str] = "UMLS licence, of each user and source"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"title", "text", "labels"})
    required: ClassVar[tuple[str, ...]] = ("MRCONSO.RRF",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base == _NAMES

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        kinds = _Kinds(file.near(_KINDS))
        for code, rows in groupby(_rows(file, _NAMES), key=lambda row: row[1][0]):
            kind = kinds.of(code)
            languages: dict[str, list[list[str]]] = {}
            for line, cells in rows:
                language = _LANGUAGES.get(cells[1])
                if cells[16] != "N":
                    drops.add(file.name, "name is suppressed", row=line, expected=True)
                elif language is None:
                    drops.add(file.name, "name is in a language that fedward has no tag of", row=line, expected=True)
                else:
                    languages.setdefault(language, []).append(cells)
            for language, names in languages.items():
                yield _item(code, language, names, kind)


def _item(code: str, language: str, names: list[list[str]], kind: str) -> Item:
    preferred = next((cells for cells in names if (cells[2], cells[4], cells[6]) == ("P", "PF", "Y")), names[0])
    texts = {"title": preferred[14], "text": "\n".join(dict.fromkeys(cells[14] for cells in names))}
    level = max((cells[15] for cells in names), key=lambda level: level.rjust(2, "0"))
    labels = {"semantic type": kind} if kind else {}
    return Item(code, language=language, texts=texts, labels=labels, licence=f"UMLS restriction level {level}")


class _Kinds:
    """Semantic types of concepts that are asked for in rising order."""

    def __init__(self, file: File | None) -> None:
        rows = iter(()) if file is None else _rows(file, _KINDS)
        self._groups = groupby(rows, key=lambda row: row[1][0])
        self._next: tuple[str, list[str]] | None = ("", [])

    def of(self, code: str) -> str:
        """The types of ``code``, joined; empty where there are none."""
        while self._next is not None and self._next[0] < code:
            group = next(self._groups, None)
            self._next = None if group is None else (group[0], [cells[3] for _, cells in group[1]])
        return "; ".join(self._next[1]) if self._next is not None and self._next[0] == code else ""


def _rows(file: File, kind: str) -> Iterator[tuple[int, list[str]]]:
    """Cells of each line; a vertical bar stands after each, also after the last."""
    last = ""
    for number, line in file.lines():
        cells = line.split("|")
        if len(cells) != _WIDTH[kind] + 1 or cells[-1] or not cells[0]:
            words = f"Line {number:,} of {file.name} has not the {_WIDTH[kind]} fields of {kind.upper()}."
            raise DataError(words, code="FW-DATA-032")
        if cells[0] < last:
            raise DataError(f"Line {number:,} of {file.name} is not in the order of CUIs.", code="FW-DATA-032")
        last = cells[0]
        yield number, cells
