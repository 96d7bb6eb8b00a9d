"""MedDialog: consultations of patients with doctors, in Chinese and in English (Zeng et al. 2020).

Processed: arrays of utterances (``病人：...``), or objects of a description and utterances (``patient: ...``). Raw:
records begin with ``id=1``, and in their part ``Dialogue`` a speaker stands on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.corpora.dialogues import learnable, role_of, spoken
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import is_json, unit_of
from fedward.client.corpora.text_corpus import TextCorpus, check_nobody, first_record, has_keys, names_person, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_RAW = re.compile(rb"(?:\xef\xbb\xbf)?\s*id=\d+\s*\n")
_RECORD, _SPEAKER = (
    re.compile(r"id=\d+\s*"),
    re.compile(r"\s*(病人|患者|医生|patient|doctor)\s*[:：]\s*", re.IGNORECASE),
)
_PARTS = ("Description", "Dialogue", "Doctor faculty", "Diagnosis and suggestions")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class MedDialog(TextCorpus):
    """The unit is the consultation: patients are not named, and who came twice cannot be told."""

    name: ClassVar[str] = "meddialog"
    title: ClassVar[str] = "MedDialog, consultations (Zeng et al. 2020)"
    unit: ClassVar[UnitName] = "document"
    languages: ClassVar[tuple[str, ...]] = ("en", "zh")
    licence: ClassVar[str] = "research only; copyright of the sites"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"context", "turns"})
    required: ClassVar[tuple[str, ...]] = (
        "JSON of utterances (patient: ..., doctor: ...), or text with id=1, Dialogue",
    )

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if file.base.endswith(".txt"):
            return _RAW.match(file.head(256)) is not None
        record = first_record(file) if is_json(file) else None
        if names_person(record):
            return False
        utterances = record
        if isinstance(record, Mapping):
            utterances = record.get("utterances") if "description" in record else None
        return isinstance(utterances, list) and any(isinstance(each, str) and spoken(each) for each in utterances)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        if file.base.endswith(".txt"):
            for number, raw in enumerate(_raw(file), 1):
                if raw.before:
                    drops.add(file.name, "words of no speaker", raw.before, raw.line, expected=True)
                yield from _item(raw.turns(), "\n".join(raw.context), file, drops, number)
            return
        for row, record in file.json():
            where = f"Record {row:,} of {file.name}"
            whole = has_keys(record, "utterances")
            if isinstance(record, Mapping):
                check_nobody(record, where)
            turns = [spoken(each) for each in _utterances(record["utterances"] if whole else record, where)]
            if None in turns:
                drops.add(file.name, "utterance without a speaker", row=row, expected=True)
                continue
            context = text_of(record, "description", where) if whole else ""
            yield from _item(filter(None, turns), context, file, drops, row)


def _utterances(found: Any, where: str) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise DataError(f"{where} is not a list of utterances.", code="FW-DATA-032")
    return found


def _item(turns: Iterable[Turn], context: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
    found = learnable(turns, file, drops, row)
    if found:
        words = [turn.text for turn in found]
        language = "zh" if _CHINESE.search("".join(words)) else "en"
        texts = {"context": context} if context else {}
        yield Item(unit_of(*words), language=language, texts=texts, turns=found, held_out=of_test_part(file))


@dataclass
class _Raw:
    """One record of raw text, as it is read."""

    line: int
    part: str = ""
    context: list[str] = field(default_factory=list)
    spoken: list[tuple[str, list[str]]] = field(default_factory=list)
    before: int = 0  # lines of the dialogue before anybody speaks

    def add(self, line: str) -> None:
        speaker = _SPEAKER.fullmatch(line) if self.part == "Dialogue" else None
        if line.strip() in _PARTS:
            self.part = line.strip()
        elif speaker is not None:
            self.spoken.append((speaker[1], []))
        elif self.part == "Dialogue" and self.spoken:
            self.spoken[-1][1].append(line.strip())
        elif self.part == "Dialogue":
            self.before += bool(line.strip())
        elif self.part == "Description" and line.strip():
            self.context.append(line.strip())

    def turns(self) -> list[Turn]:
        return [Turn(role_of(speaker) or "user", "\n".join(words).strip()) for speaker, words in self.spoken]


def _raw(file: File) -> Iterator[_Raw]:
    """Records of raw text, one after another."""
    raw = None
    for number, line in file.lines():
        if _RECORD.fullmatch(line.strip()):
            if raw is not None:
                yield raw
            raw = _Raw(number)
        elif raw is not None:
            raw.add(line)
        elif line.strip():
            raise DataError(f"Line {number:,} of {file.name} is of no record.", code="FW-DATA-032")
    if raw is not None:
        yield raw
