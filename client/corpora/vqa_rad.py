"""VQA-RAD: questions of clinicians about radiology images, with answers (Lau et al. 2018).

One JSON array as published. The test part is told by ``phrase_type``. Answers may be numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import image_of, labels_of, question_and_answer
from fedward.client.corpora.questions import begins, records
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_KEYS = ("image_name", "question", "answer", "phrase_type")


class VqaRad(TextCorpus):
    """The unit is the image, about which there are several questions."""

    name: ClassVar[str] = "vqa-rad"
    title: ClassVar[str] = "VQA-RAD, questions about radiology images (Lau et al. 2018)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "CC0 1.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "labels", "images"})
    required: ClassVar[tuple[str, ...]] = ("JSON with image_name, question, answer and phrase_type",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return begins(file, *_KEYS) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, where, record in records(file, _KEYS, "a question of VQA-RAD"):
            image = text_of(record, "image_name", where, empty=False)
            texts = {role: text_of(record, role, where) for role in ("question", "answer")}
            if question_and_answer(texts, file, drops, row):
                yield Item(
                    image,
                    language="en",
                    texts=texts,
                    labels=labels_of(record, ("image_organ", "question_type", "answer_type")),
                    images=image_of(file, [image], drops, row),
                    held_out=text_of(record, "phrase_type", where).startswith("test_"),
                )
