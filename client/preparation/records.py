"""Records as they are written: general forms of JSON, so that ``fedward data check`` reads them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedward.client.corpora import Corpus, Item, StayCorpus
from fedward.client.corpora.corpus import Turn
from fedward.client.corpora.forms import FORMS
from fedward.errors import DataError

Change = Callable[[str], str]  # of a text


@dataclass(frozen=True, slots=True)
class Written:
    """How items of one form are written.

    Attributes:
        form: name of it in ``FORMS``.
        record: the JSON object of an item.
        asked: what a record asks; of running text, all of it.
    """

    form: str
    record: Callable[[Item], dict[str, Any]]
    asked: Callable[[Item], str]


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def _preference(item: Item) -> dict[str, Any]:
    asked = _messages(item.turns) or [{"role": "user", "content": item.texts["question"]}]
    return {"prompt": asked, "chosen": item.texts["chosen"], "rejected": item.texts["rejected"]}


def _choice(item: Item) -> dict[str, Any]:
    return {"question": _question(item), "options": dict(item.options), "answer_idx": item.right}


def _sft(item: Item) -> dict[str, Any]:
    beside = {"context": item.texts["context"]} if item.texts.get("context") else {}
    return {"question": item.texts["question"], **beside, "answer": item.texts["answer"]}


def _running(item: Item) -> dict[str, Any]:
    title = {"title": item.texts["title"]} if item.texts.get("title") else {}
    return {**title, "text": item.texts["text"]}


def _question(item: Item) -> str:
    return "\n".join(filter(None, (item.texts.get("context", ""), item.texts.get("question", ""))))


def whole(item: Item) -> str:
    """All words of an item."""
    parts = (*item.texts.values(), *(turn.text for turn in item.turns), *item.options.values())
    return "\n".join(filter(None, parts))


WRITTEN = (
    Written("preference", _preference, lambda item: "\n".join(turn.text for turn in item.turns) or _question(item)),
    Written("choice", _choice, lambda item: "\n".join((_question(item), *item.options.values()))),
    Written("dialogue", lambda item: {"messages": _messages(item.turns)}, whole),
    Written("sft", _sft, _question),
    Written("clm", _running, whole),
)
"""Forms that are written, the one that says most of a record first."""


def forms_of(corpus: Corpus) -> list[Written]:
    """The forms in which a corpus can be written; raises FW-DATA-030 for one that holds no texts."""
    if isinstance(corpus, StayCorpus):
        return [WRITTEN[-1]]
    found = [each for each in WRITTEN if {*FORMS[each.form].needs} <= corpus.gives]
    if found:
        return found
    told = f"{corpus.name!r} holds no running text, question, dialogue or choice that could be prepared."
    raise DataError(told, code="FW-DATA-030", fix="Prepare a data set of texts.")


def changed(item: Item, change: Change) -> Item:
    """The item with every text changed; its marks are gone, since they would stand elsewhere."""

    def each(texts: Mapping[str, str]) -> dict[str, str]:
        return {name: change(text) for name, text in texts.items()}

    turns = tuple(replace(turn, text=change(turn.text)) for turn in item.turns)
    return replace(item, texts=each(item.texts), options=each(item.options), turns=turns, spans=(), relations=())
