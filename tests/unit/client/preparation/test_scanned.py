"""Ways round the rule that notes of persons are scanned before a language model learns them."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import detect
from fedward.client.data.scanned import CARD_JSON, MARKER, check_scanned, is_scanned
from fedward.client.models.families.family import LANGUAGE_HEADS
from fedward.client.preparation.prepare import TRAIN, Settings, prepare
from fedward.client.tasks import LOCAL_TASKS
from fedward.client.tasks.task import WORD_FOR_WORD, TextSource
from tests.codes import raises

RAW = '{"patient_id": "9", "text": "Mr. Smith was seen again."}\n'
NOTES = [
    {"patient_id": str(person), "text": f"Mr. Okafor, seen 2024-03-0{person}, cough {person}, walks alone again today."}
    for person in range(1, 6)
]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A folder that ``fedward data prepare`` has written, beside the raw one it is of."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in NOTES))
    prepare(tmp_path / "raw", tmp_path / "out", Settings(tmp_path / "keys" / "key"))
    return tmp_path / "out"


def appended(folder: Path) -> None:
    with (folder / TRAIN).open("a") as file:
        file.write(RAW)


def concatenated(folder: Path) -> None:
    (folder / TRAIN).write_bytes((folder.parent / "raw" / "notes.jsonl").read_bytes() + (folder / TRAIN).read_bytes())


def renamed(folder: Path) -> None:
    (folder / TRAIN).rename(folder / "all.jsonl")


def linked(folder: Path) -> None:
    """The same bytes elsewhere, where they can be changed once they were looked at."""
    shutil.copy(folder / TRAIN, folder.parent / "elsewhere.jsonl")
    (folder / TRAIN).unlink()
    (folder / TRAIN).symlink_to(folder.parent / "elsewhere.jsonl")


def linked_beside(folder: Path) -> None:
    (folder / "more.json").symlink_to(folder.parent / "raw" / "notes.jsonl")


def linked_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent / "raw", target_is_directory=True)


def in_a_folder(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "notes.jsonl").write_text(RAW)


def removed(folder: Path) -> None:
    (folder / TRAIN).unlink()


def card_of_notes(folder: Path) -> None:
    """Records in the place of the data card, whose name is known."""
    (folder / CARD_JSON).write_text(RAW)


def record_in_the_marker(folder: Path) -> None:
    value = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps({**value, **json.loads(RAW)}))


def records_after_the_marker(folder: Path) -> None:
    with (folder / MARKER).open("a") as file:
        file.write(RAW)


def added(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(gzip.compress(RAW.encode(), mtime=0) if name.endswith(".gz") else RAW.encode())

    change.__name__ = f"added {name}"
    return change


CHANGES = [
    appended, concatenated, renamed, linked, linked_beside, linked_folder, in_a_folder, removed, card_of_notes,
    record_in_the_marker, records_after_the_marker,
    *map(added, ("more.jsonl", "more.json", "MORE.JSONL", "more.ndjson", "more.jsonl.gz", "more.csv", "more.txt")),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_folder_that_was_changed_after_scanning_is_refused(change: Callable[[Path], None], prepared: Path) -> None:
    check_scanned(prepared)
    change(prepared)
    with raises("FW-DATA-023"):
        check_scanned(prepared)


def test_the_marker_of_another_folder_is_refused(prepared: Path) -> None:
    raw = prepared.parent / "raw"
    shutil.copy(prepared / MARKER, raw / MARKER)
    with raises("FW-DATA-023"):
        is_scanned(raw)
    for each in prepared.iterdir():  # all of it: the marker is then true of every file but one
        shutil.copy(each, raw / each.name)
    with raises("FW-DATA-023", match=r"notes\.jsonl"):
        is_scanned(raw)


def test_a_folder_may_be_moved_or_copied_as_a_whole(prepared: Path) -> None:
    moved = prepared.rename(prepared.with_name("moved"))
    check_scanned(moved)
    (moved / ".cache").mkdir()  # hidden: no reader looks at it
    check_scanned(Path(shutil.copytree(moved, moved.with_name("copied"))))
    (moved.parent / "link").symlink_to(moved)
    check_scanned(moved.parent / "link")


@pytest.mark.parametrize("of", ["file", "archive", "folder above"])
def test_a_part_of_a_prepared_folder_or_more_than_it_is_not_scanned(of: str, prepared: Path) -> None:
    places = {"file": prepared / TRAIN, "folder above": prepared.parent}
    place = places.get(of) or Path(shutil.make_archive(str(prepared.parent / "packed"), "zip", prepared))
    with raises("FW-DATA-022"):
        check_scanned(place)


def test_a_damaged_marker_is_refused(prepared: Path) -> None:
    for text in ("", "[]", "{", '{"scanned": true}', '{"scanned": 1, "rules": "", "files": {}}', "[" * 100_000):
        (prepared / MARKER).write_text(text)
        with raises("FW-DATA-023", match="damaged"):
            is_scanned(prepared)


@pytest.mark.parametrize("role", ["answer", "chosen", "options", "rejected", "text", "turns"])
def test_whatever_is_learnt_word_for_word_must_be_scanned(role: str, prepared: Path) -> None:
    corpus, folder = detect(prepared.parent / "raw")
    source = TextSource("question", label=lambda item: 1, needs=[role])
    with raises("FW-DATA-022"):
        source.check_folder(corpus, folder)
    source.check_folder(*detect(prepared))
    TextSource("question", label=lambda item: 1).check_folder(corpus, folder)


def test_no_task_of_language_models_learns_unscanned_texts_of_persons() -> None:
    learning = {name: task for name, task in LOCAL_TASKS.items() if task.declaration.head.kind in LANGUAGE_HEADS}
    assert {"sft", "dialogue", "clm", "mlm", "choice", "preference"} <= learning.keys()
    assert [name for name, task in learning.items() if task.source.needs.isdisjoint(WORD_FOR_WORD)] == []
