"""Failpoints of a chaos process: named by who asks for a write, counted, and made to do what a fault says."""

import errno
import json
from types import SimpleNamespace

import pytest

from fedward.failpoints import unsafe_arm
from fedward.privacy.ledger import FileStore, Ledger, Population
from fedward.privacy.secagg.journal import FileJournal
from fedward.simulations.chaos import points
from fedward.simulations.chaos.history import Chronicle
from fedward.simulations.chaos.points import CRASHED, Fault, Points
from fedward.storage import append_file, replace_file


@pytest.fixture
def armed(tmp_path):
    """Arms this process for the test; returns what was noted."""
    path = tmp_path / "history.jsonl"

    def arm(*faults):
        Points(Chronicle(path, "me"), faults, counts=True).arm()
        return lambda: [json.loads(line) for line in path.read_text().splitlines()]

    yield arm
    unsafe_arm(None)


def test_a_write_is_named_by_what_asked_for_it(armed, tmp_path):
    noted = armed()
    Ledger(FileStore(tmp_path / "ledger"), site="a", cap_epsilon=1.0, delta=1e-5, population=Population("salt", 0.4))
    names = [(event["point"], event["when"]) for event in noted()]
    assert ("append Ledger.__init__", "amid") not in names, "functions of one underscore are helpers"
    kinds = {name.partition(" ")[0] for name, _ in names}
    assert kinds == {"folder", "replace", "append"}


def test_each_hit_is_counted_by_its_point(armed, tmp_path):
    noted = armed()
    journal = FileJournal(tmp_path / "journal", bytes(32))
    for _ in range(3):
        journal.save(b"state")
    hits = [event["hit"] for event in noted() if event["point"].startswith("replace") and event["when"] == "amid"]
    assert hits == [1, 2, 3]


def test_a_full_disk_lasts_for_so_many_writes(armed, tmp_path):
    armed(Fault("replace (start)", "before", 2, "full", times=2))
    path = tmp_path / "file"
    replace_file(path, b"1")
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            replace_file(path, b"2")
        assert caught.value.errno == errno.ENOSPC
        assert path.read_bytes() == b"1"
    replace_file(path, b"3")
    assert path.read_bytes() == b"3"


class EndedError(Exception):
    """In place of the end of the process."""


def test_a_process_ends_in_the_middle_of_a_record(armed, tmp_path, monkeypatch):
    ended = []

    def leave(status):
        ended.append(status)
        raise EndedError

    monkeypatch.setattr(points, "os", SimpleNamespace(_exit=leave, strerror=str))
    noted = armed(Fault("append (start)", "amid", 1))
    with pytest.raises(EndedError):
        append_file(tmp_path / "chain", b"0123456789")
    assert ended == [CRASHED]
    assert (tmp_path / "chain").read_bytes() == b"01234"
    assert [event["deed"] for event in noted() if event["kind"] == "fault"] == ["end"]
