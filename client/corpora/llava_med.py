"""LLaVA-Med: dialogues about figures of PubMed Central articles, written by a program (Li et al. 2023).

JSON arrays as published, where the key of the dialogue is misspelt ``conversatons``; the right spelling is read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.corpora.parts import image_of, of_test_part
from fedward.client.corpora.questions import begins
from fedward.client.corpora.text_corpus import TextCorpus, check_nobody, has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_DIALOGUE = ("conversatons", "conversations")
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {"human": "user", "gpt": "assistant", "system": "system"}
_MARK = "<image>"


class LlavaMed(TextCorpus):
    """The unit is the figure; the mark that stands for it in the first turn is taken out."""

    name: ClassVar[str] = "llava-med"
    title: ClassVar[str] = "LLaVA-Med, dialogues about figures (Li et al. 2023)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "CC BY-NC 4.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"turns", "images"})
    required: ClassVar[tuple[str, ...]] = ("JSON with image and conversatons",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        record = begins(file, "image")
        return record is not None and any(has_keys(record, key) for key in _DIALOGUE)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, record in file.json():
            where = f"Record {row:,} of {file.name}"
            turns = _turns(record, where)
            check_nobody(record, where)
            image = text_of(record, "image", where, empty=False)
            if not any(turn.role == "assistant" for turn in turns):
                drops.add(file.name, "dialogue without an answer", row=row)
                continue
            images = image_of(file, [image], drops, row)
            yield Item(image, language="en", turns=turns, images=images, held_out=of_test_part(file))


def _turns(record: Any, where: str) -> tuple[Turn, ...]:
    dialogue = next((record[key] for key in _DIALOGUE if key in record), None) if isinstance(record, Mapping) else None
    if not isinstance(dialogue, list) or not all(has_keys(turn, "from", "value") for turn in dialogue):
        raise DataError(f"{where} has no list of turns.", code="FW-DATA-032")
    found = []
    for turn in dialogue:
        role = _ROLES.get(text_of(turn, "from", where))
        if role is None:
            raise DataError(f"{where}: a turn is neither of human nor of gpt.", code="FW-DATA-032")
        found.append(Turn(role, text_of(turn, "value", where).replace(_MARK, "").strip()))
    return tuple(found)
