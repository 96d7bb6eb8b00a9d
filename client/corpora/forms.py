"""Forms of records: what a record of text can teach, whatever data set it is of, and how its labels are counted.

A form is what ``fedward data check --task`` counts; a task of the same name trains on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fedward.client.corpora.corpus import Item


@dataclass(frozen=True, slots=True)
class Form:
    """One form.

    Attributes:
        name: as a task is called.
        title: what it is, in a few words.
        needs: what a record must hold; of a set of names, each.
        fits: whether a record can be used.
        labels: what is counted of a record that fits.
        hides: roles of texts that tell the answer, which are not part of the prompt.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    fits: Callable[[Item], bool]
    labels: Callable[[Item], Counter[str]]
    hides: tuple[str, ...] = ()


def _roles(*roles: str) -> Callable[[Item], bool]:
    return lambda item: all(item.texts.get(role) for role in roles)


def _nothing(item: Item) -> Counter[str]:
    return Counter()


def _turns(item: Item) -> Counter[str]:
    return Counter(f"{turn.role} turns" for turn in item.turns)


def _entities(item: Item) -> Counter[str]:
    return Counter(span.kind for span in item.spans) + Counter({"entities": len(item.spans)})


def _relations(item: Item) -> Counter[str]:
    return Counter(each.kind for each in item.relations) + Counter({"relations": len(item.relations)})


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("choice", "multiple choice", ("options",), lambda item: item.right in item.options,
             lambda item: Counter([item.right]), hides=("answer", "decision")),
        Form("sft", "question and answer", ("question", "answer"), _roles("question", "answer"), _nothing),
        Form("dialogue", "dialogue", ("turns",),
             lambda item: any(turn.role == "assistant" for turn in item.turns), _turns),
        Form("clm", "running text", ("text",), _roles("text"), _nothing),
        Form("ner", "marked entities", ("spans",), lambda item: bool(item.texts), _entities),
        Form("relations", "relations between entities", ("relations",), lambda item: bool(item.texts), _relations),
        Form("preference", "a chosen and a rejected answer", ("chosen", "rejected"), _roles("chosen", "rejected"),
             _nothing),
        Form("ranking", "candidate answers of a question", ("candidates",), lambda item: bool(item.options),
             lambda item: Counter({"candidates": len(item.options)})),
        Form("labels", "labels of documents", ("labels",), lambda item: bool(item.labels),
             lambda item: Counter(f"{name}: {label}" for name, label in item.labels.items())),
        Form("images", "images with words", ("images",), lambda item: bool(item.images), _nothing),
    )
}  # fmt: skip
