"""Instructions: questions with answers as JSON, as Alpaca writes them or under the usual names, that name no person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.corpora.dialogues import learnable
from fedward.client.corpora.general_form import GeneralForm
from fedward.client.corpora.parts import of_test_part, question_and_answer
from fedward.client.corpora.questions import instruction, unit_of
from fedward.client.corpora.text_corpus import has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_PAIRS = (
    ("instruction", "output"),
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("query", "response"),
    ("input", "output"),
)


class Instructions(GeneralForm):
    """The unit is the question, whatever number of answers it has. A text ``context`` is kept beside it.

    One with a ``history`` of earlier questions and answers is a dialogue.
    """

    name: ClassVar[str] = "instructions"
    title: ClassVar[str] = "Instructions (JSON of questions and answers)"
    unit: ClassVar[UnitName] = "question"
    gives: ClassVar[frozenset[str]] = frozenset({"question", "context", "answer", "turns"})
    required: ClassVar[tuple[str, ...]] = (f"JSON with {', or '.join(' and '.join(pair) for pair in _PAIRS)}",)

    def fits(self, record: Any) -> bool:
        """See :meth:`GeneralForm.fits`."""
        choice = any(has_keys(record, "question", key) for key in ("options", "choices"))
        return not choice and any(has_keys(record, *pair) for pair in _PAIRS)

    def parse(self, record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
        """See :meth:`GeneralForm.parse`."""
        asked, answered = next(pair for pair in _PAIRS if has_keys(record, *pair))
        if asked == "instruction":
            texts = instruction(record, where)
        else:
            texts = {"question": text_of(record, asked, where), "answer": text_of(record, answered, where)}
        drops.remark(file.name, "system prompt: not read", bool(record.get("system")))
        if not question_and_answer(texts, file, drops, row):
            return
        if earlier := _earlier(record, where):
            turns = (*earlier, Turn("user", texts["question"]), Turn("assistant", texts["answer"]))
            found = learnable(turns, file, drops, row)
            yield Item(unit_of(*(turn.text for turn in found)), turns=found, held_out=of_test_part(file, record))
        else:
            context = record.get("context")
            beside = {"context": context.strip()} if isinstance(context, str) and context.strip() else {}
            yield Item(
                unit_of(texts["question"], *beside.values()), texts=beside | texts, held_out=of_test_part(file, record)
            )


def _earlier(record: Mapping[str, Any], where: str) -> list[Turn]:
    """Earlier questions and answers, which some write beside the last one."""
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise DataError(f"{where}: 'history' is not a list of questions with their answers.", code="FW-DATA-032")
    texts = [[text_of({"history": words}, "history", where) for words in pair] for pair in history]
    return [turn for asked, answered in texts for turn in (Turn("user", asked), Turn("assistant", answered))]
