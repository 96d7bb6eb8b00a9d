"""Preparation of one data set: read, filtered, without copies, masked, written as a folder of its own with a card.

The folder appears whole or not at all: everything is written beside it first. Records are written one by one, so that
of a large set only hashes and sketches are held, in memory up to 180 MB and beyond that in temporary files.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fedward.client.corpora import Corpus, Item, StayCorpus, detect
from fedward.client.corpora.excluding import excluding
from fedward.client.corpora.forms import FORMS
from fedward.client.corpora.licence import licence_of
from fedward.client.data.deid import RULES_VERSION, check_rules, has_rules
from fedward.client.data.drops import Drops
from fedward.client.data.exclusions import Exclusions
from fedward.client.data.scanned import CARD_JSON, CARD_TEXT, MARKER, file_hash, is_scanned, marker
from fedward.client.data.text import language_of
from fedward.client.preparation.card import Card
from fedward.client.preparation.dates import DateShift
from fedward.client.preparation.duplicates import Duplicates
from fedward.client.preparation.masking import Masking
from fedward.client.preparation.presidio import Second
from fedward.client.preparation.quality import Quality
from fedward.client.preparation.records import forms_of, whole
from fedward.client.preparation.seen import Seen
from fedward.errors import ConfigError, DataError
from fedward.storage import read_secret, sync_folder, write_new_secret

TRAIN, TEST = "train.jsonl", "test.jsonl"
KEY_BYTES = 32
_TOLD_EVERY = 1000

Progress = Callable[[str, int], None]
"""What is being done, and how many records it has done."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a data set is prepared.

    Attributes:
        quality: what is kept.
        key: file of the key that shifts dates; made if it is missing.
        day_first: whether 3/4/2024 is the third of April.
        leave_out: leave out texts of persons in languages without rules, instead of refusing them.
        second: a second pass that finds identifiers.
        exclude: file of persons who opted out, whose records are not read.
    """

    key: Path
    quality: Quality = field(default_factory=Quality)
    day_first: bool = False
    leave_out: bool = False
    second: Second | None = None
    exclude: Path | None = None


def prepare(path: Path, out: Path, settings: Settings, progress: Progress = lambda what, count: None) -> Card:
    """Writes the data set at ``path`` as the new folder ``out``.

    Raises DataError (it cannot be read), FW-DATA-020 (persons' texts in a language without rules), FW-DATA-006 (nothing
    is left), FW-DATA-030 (no texts), FW-CONFIG-005 (``out`` exists), FW-CONFIG-006 (the key would lie in the folder).
    """
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists already.", code="FW-CONFIG-005", fix="Choose another folder.")
    corpus, folder = detect(path)
    excluded = None if settings.exclude is None else Exclusions.read(settings.exclude)
    if excluded is not None:
        corpus = excluding(corpus, excluded)
    work = _Preparation(corpus, folder, settings, progress)
    work.survey()
    if excluded is not None:
        excluded.check()
    if work.of_persons:
        shift = DateShift(_key(settings.key, (out, path)), day_first=settings.day_first)
        work.masking = Masking(shift, settings.second)
    with _new_folder(out) as part:
        work.write(part)
    return work.card


class _Preparation:
    """One run over a data set, which is read several times: forms, languages and what is held out are known first."""

    def __init__(self, corpus: Corpus, folder: Path, settings: Settings, progress: Progress) -> None:
        self.corpus, self.folder, self.settings, self.progress = corpus, folder, settings, progress
        self.forms = forms_of(corpus)
        self.written, self.any_held_out = self.forms[0], False
        self.scanned = folder.is_dir() and is_scanned(folder)
        self.of_persons = corpus.free_text_of_persons and not self.scanned
        self.masking: Masking | None = None
        self.duplicates, self.units = Duplicates(), Seen()
        quality = settings.quality
        self.card = Card(
            corpus.name, corpus.title, licence_of(corpus, folder), corpus.unit, self.written.form,
            RULES_VERSION if corpus.free_text_of_persons else "",
            {
                "least words": quality.min_words, "most words": quality.max_words,
                "languages": ", ".join(sorted(quality.languages)) or "all", "day first": settings.day_first,
                "second pass": settings.second is not None, "dates shifted": self.of_persons,
            },
        )  # fmt: skip

    def items(self, drops: Drops, what: str) -> Iterator[tuple[Item, str]]:
        """Every record of the written form with its language; ``what`` is told."""
        stays = isinstance(self.corpus, StayCorpus)
        found = self.corpus.documents(self.folder, drops) if stays else self.corpus.items(self.folder, drops)
        for count, item in enumerate(found, 1):
            if count % _TOLD_EVERY == 0:
                self.progress(what, count)
            told = item.language.split("-", 1)[0]
            yield item, told if told != "und" and not stays else language_of(whole(item))

    def survey(self) -> None:
        """Looks at all records: which form most of them have, and whether each language has rules.

        Raises FW-DATA-020 for texts of persons that would be written and that no rules can mask.
        """
        fits, languages = Counter[str](), Counter[str]()
        for item, language in self.items(Drops(), "looking at forms and languages"):
            fits.update(each.form for each in self.forms if FORMS[each.form].fits(item))
            self.any_held_out = self.any_held_out or item.held_out
            if not self.settings.quality.reason(whole(item), language):
                languages[language] += 1
        self.written = max(self.forms, key=lambda each: fits[each.form])
        self.card.form = self.written.form
        if self.of_persons and not self.settings.leave_out:
            check_rules(languages)

    def write(self, part: Path) -> None:
        """Writes records, marker and card into a folder."""
        if self.any_held_out:
            for item, _ in self.items(Drops(), "looking for records that are kept for evaluation"):
                if item.held_out and FORMS[self.written.form].fits(item):
                    self.duplicates.hold_out(self.written.asked(item))
        files: dict[str, IO[str]] = {}
        try:
            for item, language in self.items(self.card.unread, "writing"):
                self.card.read += 1
                reason = self._reason(item, language)
                if reason:
                    self.card.left_out[reason] += 1
                else:
                    self._write(item, language, part, files)
        finally:
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
        if not self.card.written:
            raise DataError(
                "No record is left to be written.", code="FW-DATA-006", fix=_nothing_left(self.card.left_out)
            )
        self._finish(part, sorted(files))

    def _reason(self, item: Item, language: str) -> str:
        form = FORMS[self.written.form]
        if not form.fits(item):
            return f"has no {form.title}"
        reason = self.settings.quality.reason(whole(item), language)
        if reason:
            return reason
        if self.masking is not None and not has_rules(language):
            return f"no de-identification rules for {language}"
        return "" if item.held_out else self.duplicates.reason(self.written.asked(item), whole(item))

    def _write(self, item: Item, language: str, part: Path, files: dict[str, IO[str]]) -> None:
        kept = item if self.masking is None else self.masking.masked(item, language)
        record = self.written.record(kept)
        if self.corpus.unit == "patient":
            record = {"patient_id": kept.unit, **record}
        elif self.written.form == "clm":
            record = {"document_id": kept.unit, **record}
        if kept.time is not None:
            record["time"] = kept.time.isoformat()
        name = TEST if item.held_out else TRAIN
        if name not in files:
            files[name] = (part / name).open("x", encoding="utf-8", newline="\n")
        files[name].write(json.dumps(record, ensure_ascii=False) + "\n")
        self.units.add(kept.unit)
        self.card.written[name] += 1
        self.card.languages[language] += 1

    def _finish(self, part: Path, names: list[str]) -> None:
        card = self.card
        card.units, card.files = len(self.units), {name: file_hash(part / name) for name in names}
        card.masked = self.masking.counts if self.masking is not None else Counter()
        _write_json(part / CARD_JSON, card.to_value())
        _write_text(part / CARD_TEXT, card.markdown())
        cards = {name: file_hash(part / name) for name in (CARD_JSON, CARD_TEXT)}
        _write_json(part / MARKER, marker(card.rules, card.files | cards))


def _key(path: Path, apart: tuple[Path, ...]) -> bytes:
    """The key in a private file, made if it is missing; raises FW-CONFIG-006 where it would lie with the data."""
    place = path.resolve()
    if any(place.is_relative_to(folder.resolve()) for folder in apart):
        told = "The key that shifts dates would lie in a folder of the data."
        raise ConfigError(told, code="FW-CONFIG-006", fix="Name a file elsewhere with --key, which only you can read.")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new_secret(path, secrets.token_bytes(KEY_BYTES))
    key = read_secret(path)
    if len(key) != KEY_BYTES:
        raise ConfigError(f"The key file {path} has not {KEY_BYTES} bytes.", code="FW-CONFIG-006")
    return key


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place at the end, and goes if anything fails.

    What a killed preparation of ``out`` left is removed; one that still works holds the lock on its folder.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
        with contextlib.suppress(OSError), _held(left):
            shutil.rmtree(left)
    part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    part.mkdir(mode=0o700)
    with _held(part), _gone_on_failure(part):
        yield part
        sync_folder(part)
        if out.exists():  # made by somebody else in the meantime; an empty folder would be replaced
            raise ConfigError(f"{out} exists already.", code="FW-CONFIG-005", fix="Choose another folder.")
        part.rename(out)
        sync_folder(out.parent)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The lock on a folder; raises OSError where another process has it. It ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _gone_on_failure(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _nothing_left(reasons: Counter[str]) -> str:
    told = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(3))
    return f"Left out: {told}." if told else "The data set has no records of text."


def _write_json(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
