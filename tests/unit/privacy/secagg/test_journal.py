from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from fedward.privacy.secagg.journal import FileJournal, MemoryJournal
from fedward.storage import FolderInUseError, JournalError
from tests.codes import raises

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


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2500])
def test_a_vector_of_several_pieces_comes_back_whole_and_any_change_is_found(tmp_path, monkeypatch, size):
    monkeypatch.setattr("fedward.privacy.secagg.journal._PIECE_BYTES", 1000)
    folder, vector = tmp_path / "journal", os.urandom(size)
    journal = FileJournal(folder, KEY)
    journal.put("q", vector)
    assert journal.get("q") == vector
    (file,) = folder.glob("vector-*")
    whole = file.read_bytes()
    for place in {0, 12, len(whole) // 2, len(whole) - 17, len(whole) - 1}:
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(JournalError):
            journal.get("q")


@pytest.mark.attack("local user", "reads or exchanges journal files")
def test_files_are_encrypted_private_and_bound_to_their_place(tmp_path):
    journal = FileJournal(tmp_path / "j", KEY)
    journal.save(b"the secret state")
    journal.put("q", b"the secret vector")
    files = list((tmp_path / "j").iterdir())
    assert len(files) == 2
    for file in files:
        assert b"secret" not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
    journal.close()
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
    with raises("FW-RESOURCE-301"):
        journal.save(b"new")
    monkeypatch.undo()
    journal.close()
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


HOLDER = """
import sys
from pathlib import Path
from fedward.privacy.secagg.journal import FileJournal
journal = FileJournal(Path(sys.argv[1]), b"k" * 32)
journal.save(b"theirs")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the journal open until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


@pytest.mark.attack("operator", "starts two processes on one journal")
def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    with pytest.raises(FolderInUseError) as refusal:
        FileJournal(tmp_path, KEY)
    assert (refusal.value.code, refusal.value.exit_code) == ("FW-SECAGG-094", 13)
    assert "Another fedward process uses this state folder" in refusal.value.message
    holder.kill()  # SIGKILL: nothing of it can clean up
    holder.wait()
    journal = FileJournal(tmp_path, KEY)
    assert journal.load() == b"theirs"


def test_a_second_journal_in_one_process_is_refused_until_the_first_is_closed_or_gone(tmp_path):
    first = FileJournal(tmp_path, KEY)
    with pytest.raises(FolderInUseError):
        FileJournal(tmp_path, KEY)
    first.close()
    second = FileJournal(tmp_path, KEY)
    for call in (first.load, lambda: first.save(b""), lambda: first.get("q"), lambda: first.keep_only(())):
        with pytest.raises(JournalError, match="closed"):
            call()
    del second
    FileJournal(tmp_path, KEY).save(b"state")


def test_a_program_that_was_started_does_not_keep_the_lock(tmp_path):
    journal = FileJournal(tmp_path, KEY)
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        # The kernel closes descriptors a moment after it lets the parent of a vfork go on.
        assert child.stdout.readline() == b"up\n"
        journal.close()
        FileJournal(tmp_path, KEY).close()
        child.communicate(b"\n")


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(JournalError, match="cannot be locked"):
        FileJournal(tmp_path, KEY)
    (tmp_path / "file").touch(mode=0o600)
    monkeypatch.setattr("pathlib.Path.mkdir", lambda *_, **__: None)
    with pytest.raises(JournalError, match="cannot be opened"):
        FileJournal(tmp_path / "file", KEY)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o701])
def test_a_folder_that_others_can_open_holds_no_journal(tmp_path, mode):
    """Broken: whoever can write there puts a link in the place of a file that is being written."""
    folder = tmp_path / "journal"
    folder.mkdir()
    folder.chmod(mode)
    with raises("FW-RESOURCE-301"):
        FileJournal(folder, KEY)
    folder.chmod(0o700)
    journal = FileJournal(folder, KEY)
    with raises("FW-RESOURCE-301"):
        (folder / "beside").mkdir()
        (folder / "beside").chmod(mode)
        journal.beside("beside")


def test_the_folder_of_another_user_holds_no_journal(tmp_path, monkeypatch):
    (tmp_path / "journal").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "journal").stat().st_uid + 1)
    with raises("FW-RESOURCE-301"):
        FileJournal(tmp_path / "journal", KEY)
