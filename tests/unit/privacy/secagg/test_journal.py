from __future__ import annotations

import os

import pytest

from fedward.privacy.secagg import FileJournal, MemoryJournal
from fedward.privacy.secagg.refusals import JournalError

KEY = b"k" * 32


@pytest.fixture(params=["memory", "file"])
def journal(request, tmp_path):
    return MemoryJournal() if request.param == "memory" else FileJournal(tmp_path / "journal", KEY)


def test_it_keeps_what_it_was_given(journal):
    assert journal.load() is None
    journal.save(b"one")
    journal.save(b"two")
    assert journal.load() == b"two"
    journal.put("q-1", bytearray(b"vector"))
    journal.put("q-2", memoryview(b"another"))
    copy = journal.get("q-1")
    copy[0] = 0
    assert journal.get("q-1") == b"vector"
    journal.keep_only(("q-2",))
    with pytest.raises(JournalError):
        journal.get("q-1")
    assert journal.get("q-2") == b"another"
    journal.keep_only(())
    with pytest.raises(JournalError):
        journal.get("q-2")


def test_files_are_encrypted_private_and_bound_to_their_place(tmp_path):
    journal = FileJournal(tmp_path / "j", KEY)
    journal.save(b"the secret state")
    journal.put("q", b"the secret vector")
    files = list((tmp_path / "j").iterdir())
    assert len(files) == 2
    for file in files:
        assert b"secret" not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
    again = FileJournal(tmp_path / "j", KEY)
    assert again.load() == b"the secret state"
    vector = next(file for file in files if file.name != "state")
    (tmp_path / "j" / "state").write_bytes(vector.read_bytes())
    with pytest.raises(JournalError):
        again.load()


@pytest.mark.parametrize(
    "damage", [lambda d: d[:10], lambda d: d[:-1], lambda d: d[:20] + b"x" + d[21:], lambda d: b""]
)
def test_damaged_files_are_refused(tmp_path, damage):
    journal = FileJournal(tmp_path, KEY)
    journal.save(b"state " * 10)
    path = tmp_path / "state"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(JournalError):
        journal.load()


def test_another_key_opens_nothing(tmp_path):
    FileJournal(tmp_path, KEY).save(b"state")
    with pytest.raises(JournalError):
        FileJournal(tmp_path, b"x" * 32).load()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_stops_half_way_leaves_the_old_state(tmp_path, monkeypatch, call):
    journal = FileJournal(tmp_path, KEY)
    journal.save(b"old")

    def stop(*_):
        raise OSError

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", stop)
    else:
        monkeypatch.setattr("pathlib.Path.replace", stop)
    with pytest.raises(OSError):
        journal.save(b"new")
    monkeypatch.undo()
    again = FileJournal(tmp_path, KEY)
    assert again.load() == b"old"
    again.keep_only(())
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_write_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    order = []
    sync, rename = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("sync"), sync(descriptor)))
    monkeypatch.setattr(type(tmp_path), "replace", lambda path, to: (order.append("rename"), rename(path, to))[1])
    FileJournal(tmp_path, KEY).save(b"state")
    assert order == ["sync", "rename", "sync"]
