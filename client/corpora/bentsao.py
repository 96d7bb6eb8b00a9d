"""BenTsao: Chinese medical instructions that a program wrote from a knowledge base and from papers (Wang et al. 2023).

``llama_data.json`` and ``infer.json`` are one object a line, whatever their names say. ``liver_cancer.json`` holds
dialogues: earlier turns stand in the instruction, ``<user>: ... <bot>: ...``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.corpora.dialogues import learnable, role_of
from fedward.client.corpora.parts import of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, instruction, records, unit_of
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_KEYS = ("instruction", "input", "output")
_NAMES = ("llama_data.json", "infer.json")
_SPEAKER = re.compile(r"<(user|bot)>\s*[:：]")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class BenTsao(TextCorpus):
    """The unit is the question, or the dialogue. A dialogue of one question and one answer is a question."""

    name: ClassVar[str] = "bentsao"
    title: ClassVar[str] = "BenTsao, Chinese medical instructions (Wang et al. 2023)"
    unit: ClassVar[UnitName] = "question"
    languages: ClassVar[tuple[str, ...]] = ("zh",)
    licence: ClassVar[str] = "academic use"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "turns"})
    required: ClassVar[tuple[str, ...]] = (
        "llama_data.json, infer.json, or JSON of dialogues (<user>: ... <bot>: ...)",
    )

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        record = begins(file, *_KEYS)
        if record is None:
            return False
        words = str(record["instruction"])
        return _SPEAKER.match(words.strip()) is not None or (file.base in _NAMES and bool(_CHINESE.search(words)))

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        for row, where, record in records(file, _KEYS, "an instruction of BenTsao"):
            texts = instruction(record, where)
            if not question_and_answer(texts, file, drops, row):
                continue
            turns = _turns(texts)
            held_out = of_test_part(file)
            if len(turns) > 2:
                found = learnable(turns, file, drops, row)
                yield Item(unit_of(*(turn.text for turn in found)), language="zh", turns=found, held_out=held_out)
            else:
                asked = {**texts, "question": turns[0].text} if turns else texts
                yield Item(unit_of(asked["question"]), language="zh", texts=asked, held_out=held_out)


def _turns(texts: dict[str, str]) -> list[Turn]:
    """The turns of a dialogue; none for a plain question."""
    before, *parts = _SPEAKER.split(texts["question"])
    if before.strip() or not parts:
        return []
    turns = [Turn(role_of(parts[at]) or "user", parts[at + 1].strip()) for at in range(0, len(parts), 2)]
    return [*turns, Turn("assistant", texts["answer"])]
