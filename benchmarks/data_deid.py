"""Figures of de-identification: generated notes in English and Chinese, with identifiers whose places are known.

Identifiers are written in the forms of ``deid_forms.toml``, which the rules and their unit tests do not read. An
identifier counts as found if every letter of it is masked; a masked span is right if it touches an identifier.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedward.client.data.deid import rules_for
from fedward.client.data.text import normal

FORMS = Path(__file__).with_name("deid_forms.toml")
HELD = ("DATE", "PHONE", "ID", "EMAIL", "POSTAL")
"""Classes whose recall has a target; names, addresses and ages are reported."""

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DRAWN = ("first", "last", "street", "province", "district", "road", "village")
_DIGITS = "〇一二三四五六七八九"
_MARK = re.compile(r"[#*^&]")
_IDENTIFIER = re.compile("«(.*?)»")


@dataclass
class Figures:
    """Counts of one language."""

    found: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)  # by form
    right: int = 0
    masked: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    def to_value(self) -> dict[str, Any]:
        """As JSON-ready values."""
        recall = {kind: round(self.found[kind] / self.all[kind], 4) for kind in sorted(self.all)}
        held = sum(self.found[kind] for kind in HELD) / sum(self.all[kind] for kind in HELD)
        return {
            "recall": recall,
            "recall_held": held,
            "precision": self.right / max(1, self.masked),
            "identifiers": self.all.total(),
        }


def measure(notes: int = 600, seed: int = 15) -> dict[str, Any]:
    """The figures ``deid_recall`` (least of the classes with a target), ``deid_precision``, ``deid_look_alikes``."""
    forms = tomllib.loads(FORMS.read_text(encoding="utf-8"))
    languages = {language: _language(language, forms, notes, random.Random(seed)) for language in ("en", "zh")}
    masked = [
        text for language, texts in forms["look_alikes"].items() for text in texts if _masks(language, forms, text)
    ]
    values = {language: figures.to_value() for language, figures in languages.items()}
    return {
        "deid_recall": min(value["recall"][kind] for value in values.values() for kind in HELD),
        "deid_precision": min(value["precision"] for value in values.values()),
        "deid_look_alikes": sum(map(len, forms["look_alikes"].values())),
        "deid_look_alikes_masked": len(masked),
        "deid": values,
        "deid_masked_look_alikes": masked,
        "deid_missed_forms": {language: dict(figures.missed) for language, figures in languages.items()},
        "deid_wrong_spans": {language: dict(figures.wrong.most_common(20)) for language, figures in languages.items()},
    }


def _language(language: str, forms: Mapping[str, Any], notes: int, rng: random.Random) -> Figures:
    own, figures = forms[language], Figures()
    pairs = [(kind, form) for kind, table in own.items() if isinstance(table, dict) for form in table["forms"]]
    for number in range(notes):
        # Every form in turn, beside three drawn ones.
        chosen = [pairs[number % len(pairs)], *rng.sample(pairs, 3)]
        sentences = [(kind, form, rng.choice(own["carriers"]).replace("{}", form)) for kind, form in chosen]
        _note(language, own["fillers"], sentences, forms["words"], figures, rng)
    return figures


def _note(
    language: str,
    fillers: list[str],
    sentences: list[tuple[str, str, str]],
    words: Mapping[str, list[str]],
    figures: Figures,
    rng: random.Random,
) -> None:
    text, places = "", list[tuple[str, str, int, int]]()
    for kind, form, sentence in sentences:
        text += rng.choice(fillers) + (" " if language == "en" else "")
        written, position = _written(sentence, language, words, rng), 0
        for match in _IDENTIFIER.finditer(written):
            text += written[position : match.start()]
            places.append((kind, form, len(text), len(text) + len(match[1])))
            text += match[1]
            position = match.end()
        text += written[position:] + ("\n" if rng.random() < 0.5 else " ")
    assert text == normal(text)
    _count(text, places, language, figures)


def _count(text: str, places: list[tuple[str, str, int, int]], language: str, figures: Figures) -> None:
    spans = rules_for(language)(text).spans
    covered = {place for span in spans for place in range(span.start, span.end)}
    for kind, form, start, end in places:
        whole = all(place in covered or not text[place].isalnum() for place in range(start, end))
        figures.all[kind] += 1
        figures.found[kind] += whole
        figures.missed[f"{kind} {form}"] += not whole
    for span in spans:
        right = any(start < span.end and span.start < end for _, _, start, end in places)
        figures.masked += 1
        figures.right += right
        if not right:
            figures.wrong[f"{span.kind} {text[max(0, span.start - 12) : span.end + 8]!r}"] += 1
    figures.missed += Counter()  # without those at zero


def _written(form: str, language: str, words: Mapping[str, list[str]], rng: random.Random) -> str:
    year, month, day = rng.randint(1990, 2025), rng.randint(1, 12), rng.randint(1, 28)
    late = rng.randint(13, 28)
    name = _MONTHS[month - 1]
    han = language == "zh"
    values = {
        "Y": str(year), "y": f"{year % 100:02}", "m": str(month), "mm": f"{month:02}", "d": str(day), "dd": f"{day:02}",
        "d13": str(late), "th": _ordinal(day), "Month": name, "MONTH": name.upper(), "Mon": name[:3],
        "MON": name[:3].upper(), "HH": f"{rng.randint(0, 23):02}", "MM": f"{rng.randint(0, 59):02}",
        "Yh": "".join(_DIGITS[int(digit)] for digit in str(year)), "mh": _han(month), "dh": _han(day),
        **{key: rng.choice(words[key]) for key in _DRAWN},
        "name": rng.choice(words["han_name"]), "surname": rng.choice(words["han_surname"]),
        "city": rng.choice(words["han_city" if han else "city"]),
    }  # fmt: skip
    filled = _IDENTIFIER.sub(lambda part: _MARK.sub(lambda mark: _letter(mark[0], rng), part[0]), form)
    return re.sub(r"\{(\w+)\}", lambda key: values[key[1]], filled)


def _letter(mark: str, rng: random.Random) -> str:
    kinds = {"#": "0123456789", "*": "23456789", "^": "ABCDEFGHJKLMNPQRSTUVWXYZ", "&": "abcdefghjkmnpqrstuvwxyz"}
    return rng.choice(kinds[mark])


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _han(number: int) -> str:
    tens, ones = divmod(number, 10)
    return ("" if not tens else ("" if tens == 1 else _DIGITS[tens]) + "十") + (_DIGITS[ones] if ones else "")


def _masks(language: str, forms: Mapping[str, Any], text: str) -> bool:
    """Whether a look-alike is masked, in a note between sentences without identifiers."""
    first, second = forms[language]["fillers"][:2]
    note = f"{first} {text}. {second}" if language == "en" else f"{first}{text}。{second}"
    return bool(rules_for(language)(normal(note)).spans)


if __name__ == "__main__":
    import json
    import sys

    json.dump(measure(), sys.stdout, indent=1, ensure_ascii=False)
    print()
