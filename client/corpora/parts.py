"""Parts of records that several sets share: checked spans, images, test files and labels. No torch.

Offsets are believed only where they agree with the text that the annotators copied beside them: tools count
characters, UTF-16 units or bytes, and a model that learns from shifted marks learns letters beside the word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedward.client.corpora.corpus import Item, Relation, Span
from fedward.client.data.batch import EMPTY
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError

Pieces = Sequence[tuple[int, int]]

_PART = r"(?:test|testing|eval(?:uation)?|hold[ _-]?out|held[ _-]?out)"
_TEST = re.compile(
    rf"(?:^|[^a-z]){_PART}(?:[ _-]?(?:set|data|part|[ab]))?(?:[^a-z]|$)"
    r"|(?:^|/)tests(?:/|\.)|[a-z](?-i:Test)(?:(?-i:[A-Z])|[^a-z]|$)|测试|评估",
    re.IGNORECASE,
)
_SPLITS = ("split", "partition", "subset", "fold", "set")
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF", b"\x00\x00\x00\x0cjP")
NOTHING = frozenset({*(word.lower() for word in EMPTY), "inf", "-inf"})
"""Words that stand for nothing, in small letters."""

_OTHER_UNITS: tuple[tuple[str, Callable[[str, int, int], str]], ...] = (
    ("UTF-16 units", lambda text, start, end: _cut(text, "utf-16-le", 2 * start, 2 * end)),
    ("bytes", lambda text, start, end: _cut(text, "utf-8", start, end)),
    ("line ends as one character", lambda text, start, end: text.replace("\r\n", "\n")[start:end]),
    ("line ends as two characters", lambda text, start, end: re.sub(r"\r?\n", "\r\n", text)[start:end]),
)


@dataclass
class Marks:
    """Spans and relations of one text, as they are read.

    Args:
        text: what is marked.
        role: of it.
        file: where the marks stand, for messages.
        drops: counts marks that are left out.
    """

    text: str
    role: str
    file: File
    drops: Drops
    spans: dict[str, Span] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    wrong: int = 0

    def add(
        self, line: int, span: str, kind: str, pieces: Pieces, words: str, *, key: str | None = None, note: str = ""
    ) -> None:  # fmt: skip
        """Keeps a span if ``words`` stand there; counts it if others do.

        Args:
            line: where in the file.
            span: its identifier in the file; relations that name others are left out.
            kind: see :class:`Span`.
            pieces: half-open ranges of characters.
            words: the marked text as the annotators copied it.
            key: see :class:`Span`; ``span`` where None.
            note: see :class:`Span`.

        Raises FW-DATA-038 (the offsets count something other than characters).
        """
        if span in self.spans:
            self.drops.add(self.file.name, "entity of the same identifier stands before", row=line, expected=True)
            return
        if _same(words, (self.text[start:end] for start, end in pieces)):
            parts = tuple(pieces) if len(pieces) > 1 else ()
            self.spans[span] = Span(
                self.role, pieces[0][0], pieces[-1][1], kind, span if key is None else key, parts, note
            )
            return
        for units, cut in _OTHER_UNITS:
            if _same(words, (cut(self.text, start, end) for start, end in pieces)):
                raise _shifted(f"Line {line:,} of {self.file.name} counts {units}, not characters of the text.")
        self.wrong += 1
        self.drops.add(self.file.name, "entity does not agree with its text", row=line, expected=True)

    def relate(self, line: int, kind: str, head: str, tail: str) -> None:
        """Keeps a relation between spans that were kept."""
        if head in self.spans and tail in self.spans:
            self.relations.append(Relation(kind, head, tail))
        else:
            self.drops.add(self.file.name, "relation names an entity that is left out", row=line, expected=True)

    def check(self) -> None:
        """Raises FW-DATA-038 where most marks of a file do not agree: its text is of another version."""
        if self.wrong > len(self.spans):
            count = self.wrong + len(self.spans)
            raise _shifted(f"{self.wrong:,} of {count:,} marks in {self.file.name} do not agree with the text.")


def _shifted(words: str) -> DataError:
    return DataError(words, code="FW-DATA-038")


def _same(words: str, pieces: Any) -> bool:
    return " ".join(words.split()) == " ".join(" ".join(pieces).split()) != ""


def _cut(text: str, encoding: str, start: int, end: int) -> str:
    return text.encode(encoding)[start:end].decode(encoding, errors="ignore")


def of_test_part(file: File, record: Mapping[str, Any] | None = None) -> bool:
    """Whether a file's name or folder, or what a record says of its part, tells that it is kept for evaluation."""
    told = (record or {}).get(next((key for key in _SPLITS if key in (record or {})), ""))
    return _is_test(file.name) or (isinstance(told, str) and _is_test(told))


@lru_cache(maxsize=1024)
def _is_test(name: str) -> bool:
    return _TEST.search(name) is not None


def image_of(file: File, names: Sequence[str], drops: Drops, row: int) -> tuple[Path, ...]:
    """The image that a record calls by one of ``names``; none, and counted, where it is not at hand as a file."""
    found = next((found for name in names if (found := file.near(name)) is not None), None)
    reason = ""
    if found is None:
        reason = "image is not in the folder"
    elif found.path is None:
        reason = "image lies in an archive: unpack it"
    elif not _is_image(found):
        reason = "image is empty, or of no known kind"
    if found is not None:
        found.used = True
    drops.add(file.name, reason, int(bool(reason)), row, expected=True)
    return () if reason or found is None or found.path is None else (found.path,)


def _is_image(file: File) -> bool:
    """Whether a file begins as pictures do, whatever its name says."""
    head = file.head(132)
    return head.startswith(_IMAGES) or head[128:] == b"DICM"


def labels_of(record: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    """What a record says under ``keys``, without outer blanks; several words joined, without empty ones."""
    found = {key: "; ".join(_words(record.get(key))) for key in keys}
    return {key: value for key, value in found.items() if value}


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [word for each in value if not isinstance(each, list) for word in _words(each)]
    text = "" if value is None or isinstance(value, dict) else str(value).strip()
    return [] if text.lower() in NOTHING else [text]


def question_and_answer(
    texts: Mapping[str, str], file: File, drops: Drops, row: int, *, expected: bool = False
) -> bool:  # fmt: skip
    """Whether both are there; a record without one is counted, see :meth:`Drops.add`."""
    lacking = next((role for role in ("question", "answer") if not texts.get(role)), None)
    if lacking is not None:
        drops.add(file.name, f"{lacking} is empty", row=row, expected=expected)
    return lacking is None


def marked_item(unit: str, marks: Marks, *, held_out: bool, language: str = "en") -> Item:
    """A record of a text with its marks."""
    return Item(
        unit,
        language=language,
        texts={marks.role: marks.text},
        spans=tuple(marks.spans.values()),
        relations=tuple(marks.relations),
        held_out=held_out,
    )
