"""Dialogues: who speaks, and which turns a model can learn from. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from fedward.client.corpora.corpus import Turn
from fedward.client.corpora.text_corpus import text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError

Role = Literal["system", "user", "assistant"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "patient", "prompter", "病人", "患者"), "user"),
    **dict.fromkeys(("assistant", "gpt", "doctor", "bot", "model", "chatgpt", "医生"), "assistant"),
}
_SPEAKERS, _WORDS = ("role", "from", "speaker"), ("content", "value", "text")
_PREFIX = re.compile(r"\s*(病人|患者|医生|patient|doctor)\s*[:：]\s*", re.IGNORECASE)


def role_of(speaker: str) -> Role | None:
    """The role of a speaker under one of its usual names; None for others."""
    return _ROLES.get(speaker.strip().lower())


def spoken(utterance: str) -> Turn | None:
    """An utterance that begins with its speaker and a colon; None without one. Later colons are part of the words."""
    prefix = _PREFIX.match(utterance)
    role = role_of(prefix[1]) if prefix else None
    return None if prefix is None or role is None else Turn(role, utterance[prefix.end() :].strip())


def turns_of(messages: Any, where: str) -> list[Turn]:
    """The turns of a list of messages; raises FW-DATA-032 for another form, or a speaker of no known role."""
    if not isinstance(messages, list):
        raise DataError(f"{where} has no list of turns.", code="FW-DATA-032")
    found = []
    for number, message in enumerate(messages, 1):
        speaker, words = (
            next((key for key in keys if isinstance(message, Mapping) and key in message), None)
            for keys in (_SPEAKERS, _WORDS)
        )
        if speaker is None or words is None:
            raise DataError(f"{where}: turn {number:,} has no speaker or no words.", code="FW-DATA-032")
        role = role_of(text_of(message, speaker, where))
        if role is None:
            named = "user, assistant and system, human and gpt, patient and doctor"
            fix = "Give every turn one of these roles; leave out what a tool said, or write it into the turn before."
            raise DataError(f"{where}: turn {number:,} is of none of the roles {named}.", code="FW-DATA-032", fix=fix)
        found.append(Turn(role, text_of({words: _plain(message[words])}, words, where)))
    return found


def joined(turns: Iterable[Turn], file: File, drops: Drops, row: int) -> list[Turn]:
    """The turns, empty ones left out and neighbours of one role joined, both counted.

    Many chat templates know no two turns of one role in a row.
    """
    return merged(turns, lambda reason: drops.add(file.name, reason, row=row, expected=True))


def merged(turns: Iterable[Turn], count: Callable[[str], None] = lambda _: None) -> list[Turn]:
    """The same; ``count`` is told why a turn does not stand alone."""
    found: list[Turn] = []
    for turn in turns:
        if not turn.text:
            count("turn is empty")
        elif found and found[-1].role == turn.role:
            count("turn follows one of the same role: joined to it")
            found[-1] = Turn(turn.role, f"{found[-1].text}\n{turn.text}")
        else:
            found.append(turn)
    return found


def learnable(turns: Iterable[Turn], file: File, drops: Drops, row: int) -> tuple[Turn, ...]:
    """The same; none, and counted, for a dialogue in which nobody answers."""
    found = joined(turns, file, drops, row)
    if any(turn.role == "assistant" for turn in found):
        return tuple(found)
    drops.add(file.name, "dialogue without an answer", row=row)
    return ()


def _plain(words: Any) -> Any:
    """The words of a message whose parts are texts, as some interfaces write them."""
    parts = words if isinstance(words, list) else None
    if parts is None or not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
        return words
    return "\n".join(part["text"] for part in parts)
