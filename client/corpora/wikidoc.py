"""WikiDoc: questions about topics of a medical encyclopaedia, as Medical Meadow publishes them (Han et al. 2023).

A JSON array of instruction, input and output. Some outputs are empty; such questions are counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, instruction, records, unit_of
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_KEYS = ("instruction", "input", "output")
_INSTRUCTION = "Answer this question truthfully"
_OTHER = "flashcards"


class WikiDoc(TextCorpus):
    """Living textbook and patient information. The texts are share-alike: keep them apart, with their source."""

    name: ClassVar[str] = "wikidoc"
    title: ClassVar[str] = "WikiDoc, questions of Medical Meadow (Han et al. 2023)"
    unit: ClassVar[UnitName] = "question"
    licence: ClassVar[str] = "CC BY-SA 3.0"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer"})
    required: ClassVar[tuple[str, ...]] = (f"JSON with instruction ({_INSTRUCTION!r}), input and output",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`; another set of Medical Meadow has the same instruction."""
        record = begins(file, *_KEYS)
        return record is not None and record["instruction"] == _INSTRUCTION and _OTHER not in file.base

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, where, record in records(file, _KEYS, "a question of WikiDoc"):
            texts = instruction(record, where)
            if question_and_answer(texts, file, drops, row):
                unit = unit_of(texts["question"])
                yield Item(unit, language="en", texts=texts, held_out=of_test_part(file))
