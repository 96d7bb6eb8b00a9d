"""n2c2 2010: notes with problems, tests and treatments, assertions and relations (Uzuner et al. 2011).

Four files for each note, often in folders of their own: ``.txt``, ``.con``, ``.ast`` and ``.rel``. Places are
``line:token``, lines from 1 and tokens, between blanks, from 0; both ends belong to the part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.n2c2 import N2c2Corpus, stem
from fedward.client.corpora.parts import Marks, marked_item, of_test_part
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError

_PLACE = r'c="(.*)" (\d+:\d+ \d+:\d+)'
_CONCEPT = re.compile(rf'{_PLACE}\|\|t="([^"]*)"\s*')
_ASSERTION = re.compile(rf'{_PLACE}\|\|t="[^"]*"\|\|a="([^"]*)"\s*')
_RELATION = re.compile(rf'{_PLACE}\|\|r="([^"]*)"\|\|{_PLACE}\s*')


class N2c2Concepts(N2c2Corpus):
    """Notes by name; a problem's assertion is the note on its span."""

    name: ClassVar[str] = "n2c2-2010"
    title: ClassVar[str] = "n2c2 2010, concepts, assertions and relations"
    gives: ClassVar[frozenset[str]] = frozenset({"text", "spans", "relations"})
    required: ClassVar[tuple[str, ...]] = ("NAME.txt with NAME.con (c=... ||t=...)",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        head = file.head(256).removeprefix(b"\xef\xbb\xbf") if file.base.endswith(".con") else b"-"
        return not head.strip() or head.startswith(b'c="')

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        source = file.near(f"{stem(file)}.txt")
        if source is None:
            raise DataError(f"The annotations {file.name} have no text with them.", code="FW-DATA-032")
        text = source.text()
        places, notes = _places(text), dict(_found(file, "ast", _ASSERTION))
        marks = Marks(text, "text", file, drops)
        for number, (words, place, kind) in _lines(file, _CONCEPT):
            start, end = (places.get(each) for each in place.split())
            pieces = (start[0], end[1]) if start and end else (0, 0)
            marks.add(number, place, kind, [pieces], _in_case(words, text[slice(*pieces)]), note=notes.get(place, ""))
        relations = file.near(f"{stem(file)}.rel")
        for number, (_, head, kind, _, tail) in _lines(relations, _RELATION) if relations else ():
            marks.relate(number, kind, head, tail)
        marks.check()
        yield marked_item(stem(file), marks, held_out=of_test_part(file))


def _places(text: str) -> dict[str, tuple[int, int]]:
    """Range of characters of each token, by ``line:token``."""
    found, begin = {}, 0
    for line, words in enumerate(text.split("\n"), 1):
        for token, match in enumerate(re.finditer(r"\S+", words)):
            found[f"{line}:{token}"] = (begin + match.start(), begin + match.end())
        begin += len(words) + 1
    return found


def _in_case(words: str, marked: str) -> str:
    """Words as they stand in the text; the annotations write them in small letters."""
    same = " ".join(words.split()).casefold() == " ".join(marked.split()).casefold()
    return marked if same else words


def _found(file: File, ending: str, form: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    other = file.near(f"{stem(file)}.{ending}")
    for _, (_, place, value) in _lines(other, form) if other else ():
        yield place, value


def _lines(file: File, form: re.Pattern[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for number, line in file.lines():
        match = form.fullmatch(line)
        if match is not None:
            yield number, match.groups()
        elif line.strip():
            raise DataError(f"Line {number:,} of {file.name} is not an annotation.", code="FW-DATA-032")
