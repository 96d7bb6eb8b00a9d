"""Preferences: a chosen and a rejected answer to one prompt, as JSON.

The prompt may stand apart, as text or messages, or as the common beginning of both conversations, or both. What both
sides share is context and is kept once, as turns; the answers are what is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.corpora.dialogues import joined, role_of, turns_of
from fedward.client.corpora.general_form import GeneralForm
from fedward.client.corpora.parts import of_test_part
from fedward.client.corpora.questions import unit_of
from fedward.client.corpora.text_corpus import has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.client.data.text import UNSPACED_LETTER
from fedward.units import UnitName

_PROMPTS = ("prompt", "question", "instruction")
LEAST_LETTERS = 4  # of a script without blanks in a prompt that can be told from the beginning of an answer
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \n]?")


class Preferences(GeneralForm):
    """The unit is the prompt. Turns are the context that both answers share, and end before them."""

    name: ClassVar[str] = "preferences"
    title: ClassVar[str] = "Preferences (JSON of chosen and rejected answers)"
    unit: ClassVar[UnitName] = "question"
    gives: ClassVar[frozenset[str]] = frozenset({"chosen", "rejected"})
    required: ClassVar[tuple[str, ...]] = ("JSON with chosen and rejected",)

    def fits(self, record: Any) -> bool:
        """See :meth:`GeneralForm.fits`."""
        return has_keys(record, "chosen", "rejected")

    def parse(self, record: Mapping[str, Any], where: str, file: File, drops: Drops, row: int) -> Iterator[Item]:
        """See :meth:`GeneralForm.parse`."""
        prompt = _prompt(record, where)
        chosen, rejected = (_side(record, key, prompt, where) for key in ("chosen", "rejected"))
        shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))]
        answers = [side[len(shared) :] for side in (chosen, rejected)]
        context = shared if shared[: len(prompt)] == prompt else [*prompt, *shared]
        reason = _useless(context, *answers)
        drops.add(file.name, reason, int(bool(reason)), row)
        if not reason:
            texts = {"chosen": answers[0][0].text, "rejected": answers[1][0].text}
            turns = tuple(joined(context, file, drops, row))
            unit = unit_of(*(turn.text for turn in turns))
            yield Item(unit, texts=texts, turns=turns, held_out=of_test_part(file, record))


def _useless(context: list[Turn], chosen: list[Turn], rejected: list[Turn]) -> str:
    """Why nothing can be learnt from a pair; empty where it can."""
    if not chosen and not rejected:
        return "both answers are alike"
    if any(len(side) != 1 or side[0].role != "assistant" for side in (chosen, rejected)):
        return "answers differ in more than their last turn"
    if not chosen[0].text or not rejected[0].text:
        return "answer is empty"
    return "" if any(turn.text for turn in context) else "prompt is missing"


def _prompt(record: Mapping[str, Any], where: str) -> list[Turn]:
    key = next((key for key in _PROMPTS if record.get(key)), None)
    if key is None:
        return []
    if isinstance(record[key], list):
        return turns_of(record[key], where)
    text = text_of(record, key, where)
    more = text_of(record, "input", where) if key == "instruction" else ""
    return _split(text) or [Turn("user", f"{text}\n{more}".strip())]


def _side(record: Mapping[str, Any], key: str, prompt: list[Turn], where: str) -> list[Turn]:
    """The turns of one side; a text is an answer, or a conversation of ``Human:`` and ``Assistant:``."""
    if isinstance(record[key], list):
        return turns_of(record[key], where)
    text = text_of(record, key, where)
    return _split(text) or [Turn("assistant", text[len(_inside(record, prompt)) :].strip())]


def _inside(record: Mapping[str, Any], prompt: list[Turn]) -> str:
    """A prompt of several words, or letters of a script without blanks, with which both answers begin again."""
    asked = prompt[0].text if len(prompt) == 1 else ""
    letters = len(UNSPACED_LETTER.findall(asked))
    if " " not in asked and letters < LEAST_LETTERS:
        return ""
    again = re.compile(rf"\s*{re.escape(asked)}" + ("" if letters >= LEAST_LETTERS else r"\s"))
    return asked if all(again.match(str(record[key])) for key in ("chosen", "rejected")) else ""


def _split(text: str) -> list[Turn]:
    before, *parts = _SPEAKER.split(text)
    if before.strip() or len(parts) < 4:
        return []
    roles = {"Human": "human", "Assistant": "assistant"}
    turns = [Turn(role_of(roles[parts[at]]) or "user", parts[at + 1].strip()) for at in range(0, len(parts), 2)]
    return turns if turns[-1].text else turns[:-1]  # a prompt may end with the name of who answers
