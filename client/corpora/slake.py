"""SLAKE: questions about radiology images in English and Chinese (Liu et al. 2021).

JSON arrays ``train``, ``validate`` and ``test`` as published; images lie in ``imgs/xmlabN/source.jpg``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import image_of, labels_of, of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, records
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_KEYS = ("img_id", "img_name", "question", "answer", "q_lang")
_LABELS = ("modality", "location", "answer_type", "content_type", "base_type")


class Slake(TextCorpus):
    """The unit is the image, about which there are several questions in both languages."""

    name: ClassVar[str] = "slake"
    title: ClassVar[str] = "SLAKE, questions about radiology images (Liu et al. 2021)"
    unit: ClassVar[UnitName] = "document"
    languages: ClassVar[tuple[str, ...]] = ("en", "zh")
    licence: ClassVar[str] = "CC BY 4.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "labels", "images"})
    required: ClassVar[tuple[str, ...]] = ("JSON with img_id, img_name, question, answer and q_lang",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return begins(file, *_KEYS) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, where, record in records(file, _KEYS, "a question of SLAKE"):
            language = text_of(record, "q_lang", where)
            if language not in self.languages:
                raise DataError(f"{where} is neither in English nor in Chinese.", code="FW-DATA-032")
            texts = {role: text_of(record, role, where) for role in ("question", "answer")}
            if question_and_answer(texts, file, drops, row):
                yield Item(
                    text_of(record, "img_id", where, empty=False),
                    language=language,
                    texts=texts,
                    labels=labels_of(record, _LABELS),
                    images=image_of(file, [text_of(record, "img_name", where, empty=False)], drops, row),
                    held_out=of_test_part(file),
                )
