"""Questions, their options and their units, as sets without persons share them. No torch.

A question is known by its words: publishers number their files anew, and one question may stand in several.
"""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedward.client.corpora.text_corpus import check_nobody, first_record, has_keys, names_person, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError

LETTERS = string.ascii_uppercase
"""Letters of options, in order."""

_JSON = (".json", ".jsonl", ".ndjson")


def unit_of(*texts: str) -> str:
    """A unit of privacy known by its words alone, whatever blanks stand between them."""
    words = unicodedata.normalize("NFC", " ".join(" ".join(texts).split()))
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_json(file: File) -> bool:
    """Whether a file is JSON by its name."""
    return file.base.endswith(_JSON)


def begins(file: File, *keys: str) -> Mapping[str, Any] | None:
    """The first record of a file of a published set, if it is JSON with all of ``keys``.

    None where it names a person: then it is a hospital's own, and each person's records are one unit.
    """
    record = first_record(file) if is_json(file) else None
    return record if has_keys(record, *keys) and not names_person(record) else None


def records(file: File, keys: Sequence[str], what: str) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Number, place for messages and value of each record; raises FW-DATA-032 for one that lacks a key.

    Also for one that names a person: see :func:`begins`.
    """
    for row, record in file.json():
        where = f"Record {row:,} of {file.name}"
        if not has_keys(record, *keys):
            raise DataError(f"{where} is not {what}.", code="FW-DATA-032")
        check_nobody({key: value for key, value in record.items() if key not in keys}, where)
        yield row, where, record


def instruction(record: Mapping[str, Any], where: str) -> dict[str, str]:
    """Question and answer of a record of ``instruction``, ``input`` and ``output``."""
    parts = (text_of(record, "instruction", where), text_of(record, "input", where))
    return {"question": "\n".join(filter(None, parts)), "answer": text_of(record, "output", where)}


def options_of(found: Any, where: str) -> dict[str, str]:
    """Options by letter; raises FW-DATA-032 for a form that is none of these.

    An object by letter, a list of texts, a list of objects of ``key`` and ``value`` or ``label`` and ``text``, or an
    object of two lists ``label`` and ``text``.
    """
    pairs: list[tuple[Any, Any]] = []
    if isinstance(found, Mapping):
        labels, texts = found.get("label"), found.get("text")
        both = isinstance(labels, list) and isinstance(texts, list)
        pairs = list(zip(labels or (), texts or (), strict=False)) if both else list(found.items())
    elif isinstance(found, list) and all(isinstance(each, Mapping) for each in found):
        pairs = [(each.get("key", each.get("label")), each.get("value", each.get("text"))) for each in found]
    elif isinstance(found, list):
        pairs = list(zip(LETTERS, found, strict=False))
    options = {
        text_of({"letter": key}, "letter", where): text_of({"option": text}, "option", where) for key, text in pairs
    }
    if not options or len(options) != len(pairs) or len(pairs) > len(LETTERS):
        raise DataError(f"{where} has no options by letter.", code="FW-DATA-032")
    return options


def whole_choice(question: str, options: Mapping[str, str], right: str, file: File, drops: Drops, row: int) -> bool:
    """Whether a question can be answered; one without words, without choice or with a false answer is counted."""
    reason = ""
    if not question:
        reason = "question is empty"
    elif len(options) < 2 or not all(options.values()):
        reason = "options are missing or empty"
    elif right and right not in options:
        reason = "right answer is none of the options"
    drops.add(file.name, reason, int(bool(reason)), row)
    return not reason


def first_number(numbers: Iterable[tuple[int, int]], name: str, key: str, *, known: int | None = None) -> int | None:
    """What right answers are counted from: 0, 1, or None where no number tells.

    Args:
        numbers: each right answer's number, and how many options it has.
        name: of the file, for messages.
        key: of the numbers.
        known: what the set is known to count from.

    Raises FW-DATA-032 where both are found: a wrong base makes every answer its neighbour.
    """
    zero = last = False
    for number, count in numbers:
        zero, last = zero or number == 0, last or number == count
    if last and (zero or known == 0):
        words = f"The numbers under {key!r} in {name} count from zero in some records and from one in others."
        raise DataError(words, code="FW-DATA-032", fix="Take apart the parts that were joined, and check them alone.")
    return 0 if zero else 1 if last else None


def unclear(name: str, key: str) -> DataError:
    """The error for numbers that may count from zero or from one."""
    return DataError(
        f"The numbers under {key!r} in {name} may count from zero or from one: neither 0 nor the last option occurs.",
        code="FW-DATA-032",
        fix="Use the whole part as published, or name the right answers by letters from A under 'answer_idx'.",
    )
