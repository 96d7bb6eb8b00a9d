"""Date shift: every date of one person moves by the same number of whole days, which a key decides.

Intervals stay, so that a model learns that a cough lasted five days, and no date is the real one. Who has the key can
shift back: it stays with the hospital. Persons get new names from the same key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

LONGEST_SHIFT = 1461
"""Days by which a date moves at most, into the past: four years."""

OLDEST_AGE = 89
"""Years before the latest date of a record above which a date, such as one of birth, would tell an age over 89."""

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_NAMES = "|".join((*_MONTHS, "sept", *(name[:3] for name in _MONTHS)))
_MONTH = rf"(?P<name>(?:{_NAMES})(?![a-z])\.?)"
_DAY = r"(?P<d>\d{1,2})(?P<th>[ ]?(?:st|nd|rd|th))?"
_WRITTEN = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<y>\d{4})(?P<mark>[ ]?[-/.][ ]?)(?P<m>\d{1,2})(?P=mark)(?P<d>\d{1,2})(?:T[\d:.]+Z?)?日?",
        r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})",
        r"(?P<first>\d{1,2})(?P<mark>[-/.])(?P<second>\d{1,2})(?P=mark)'?(?P<y>\d{4}|\d{2})",
        rf"{_DAY}[ \-/.]*(?:of[ ]|day[ ]of[ ])?{_MONTH}[ \-/.,]*'?(?P<y>\d{{4}}|\d{{2}})",
        rf"{_MONTH}[ \-/.]*(?:the[ ])?{_DAY}[ ]*,?[ \-/]*'?(?P<y>\d{{4}}|(?<=')\d{{2}})",
        r"(?P<y>\d{4})[ ]*年[ ]*(?P<m>\d{1,2})[ ]*月[ ]*(?P<d>\d{1,2})[ ]*[日号]?",
    )
]
_LATEST_SHORT_YEAR = 50  # 51 is 1951


@dataclass(frozen=True, slots=True)
class Written:
    """A whole date as it is written: its value, and the parts of the text that say it."""

    value: date
    parts: tuple[tuple[str, int, int], ...]  # what it is, and its range


class DateShift:
    """Days and new names of persons, from a key of 32 bytes; ``day_first`` is how 3/4/2024 is read."""

    def __init__(self, key: bytes, *, day_first: bool = False) -> None:
        self._key, self._day_first = key, day_first

    def days(self, unit: str) -> int:
        """By how many days the dates of a unit move: -1 to -:data:`LONGEST_SHIFT`."""
        return -(1 + int.from_bytes(self._drawn("days", unit)[:8]) % LONGEST_SHIFT)

    def name(self, unit: str) -> str:
        """The new name of a unit."""
        return self._drawn("name", unit).hex()[:24]

    def moment(self, time: datetime, unit: str) -> datetime | None:
        """A moment, shifted; None where there is no such day."""
        try:
            return time + timedelta(days=self.days(unit))
        except OverflowError:
            return None

    def read(self, text: str) -> Written | None:
        """The whole date that ``text`` is; None for a part of one, or a form that cannot be shifted."""
        for pattern in _WRITTEN:
            match = pattern.fullmatch(text.strip())
            if match:
                return _value(match, len(text) - len(text.lstrip()), self._day_first)
        return None

    def shifted(self, text: str, unit: str, latest: date | None = None) -> str | None:
        """The date ``text`` of a unit, shifted, in the same form; None where it must be masked.

        A day more than 89 years before ``latest`` is masked: it would tell a higher age.
        """
        written = self.read(text)
        if written is None or (latest is not None and latest.year - written.value.year >= OLDEST_AGE):
            return None
        moved = _moved(written.value, self.days(unit))
        if moved is None:
            return None
        pieces, place = [], 0
        for kind, start, end in sorted(written.parts, key=lambda part: part[1]):
            pieces += [text[place:start], _spelled(kind, text[start:end], moved)]
            place = end
        return "".join([*pieces, text[place:]])

    def _drawn(self, what: str, unit: str) -> bytes:
        return hmac.digest(self._key, f"fedward {what}\0{unit}".encode("utf-8", "surrogatepass"), hashlib.sha256)


def _moved(value: date, days: int) -> date | None:
    try:
        return value + timedelta(days=days)
    except OverflowError:
        return None


def _value(match: re.Match[str], offset: int, day_first: bool) -> Written | None:
    found = match.groupdict()
    day, month = ("d", "m") if "first" not in found else _order(found, day_first)
    number = _month_number(found["name"]) if found.get("name") else int(found[month])
    year = int(found["y"])
    if len(found["y"]) == 2:
        year += 2000 if year <= _LATEST_SHORT_YEAR else 1900
    try:
        value = date(year, number, int(found[day]))
    except ValueError:
        return None
    return Written(value, tuple(_parts(match, offset, day, month)))


def _order(found: dict[str, str], day_first: bool) -> tuple[str, str]:
    """Which of the first two numbers is the day, and which the month."""
    day_first = (day_first or found["mark"] == "." or int(found["first"]) > 12) and int(found["second"]) <= 12
    return ("first", "second") if day_first else ("second", "first")


def _parts(match: re.Match[str], offset: int, day: str, month: str) -> Iterator[tuple[str, int, int]]:
    named = {"year": "y", "day": day, "name": "name", "th": "th"}
    if "name" not in match.groupdict():
        named["month"] = month
    for kind, group in named.items():
        if match.groupdict().get(group):
            start, end = match.span(group)
            yield kind, start + offset, end + offset


def _month_number(name: str) -> int:
    return next(number for number, each in enumerate(_MONTHS, 1) if each.startswith(name.lower()[:3]))


def _spelled(kind: str, old: str, moved: date) -> str:
    """A part of a date in the form of the old one."""
    if kind == "year":
        return f"{moved.year:04}"[-len(old) :]
    if kind == "th":
        ending = "th" if 10 < moved.day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(moved.day % 10, "th")
        return old[: len(old) - 2] + (ending.upper() if old.isupper() else ending)
    if kind == "name":
        letters = old.rstrip(".")
        name = _MONTHS[moved.month - 1]
        name = name[:3] if len(letters) <= 4 and letters.lower() not in _MONTHS[5:7] else name
        name = name.upper() if letters.isupper() else name if letters.islower() else name.capitalize()
        return name + old[len(letters) :]
    number = moved.day if kind == "day" else moved.month
    return f"{number:0{len(old)}}"  # of two digits, both stay: they do not tell whether zeros are written
