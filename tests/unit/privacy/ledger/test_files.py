from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from fedward.errors import FedwardError
from fedward.messages import decode, encode
from fedward.privacy.book import (
    BEFORE_FIRST,
    Genesis,
    PatientSet,
    Reservation,
    Settlement,
    follow,
    from_bytes,
    read_frames,
    to_bytes,
)
from fedward.privacy.events import Event
from fedward.privacy.ledger import CHAIN, LAST, LOCK, AnchorFile, FileStore, verify
from tests.codes import raises

PLAN = bytes(range(32))


def test_files_are_for_this_user_alone(store, open_it, spend):
    spend(open_it(store))
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert {path.name for path in store.folder.iterdir()} == {CHAIN, LAST, LOCK}
    for path in store.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_restart_gives_the_same_ledger(store, open_it, spend):
    ledger = open_it(store)
    reservation = spend(ledger, 1, evaluation=[Event("release", 9.0, 1.0, 1)])
    ledger.settle(reservation, output=PLAN)
    spend(ledger, 2)
    again = open_it(FileStore(store.folder))
    assert again.head() == ledger.head()
    assert again.spent() == ledger.spent()
    assert again.book.reservations == ledger.book.reservations


def test_record_is_synced_before_reserve_returns(store, open_it, spend, monkeypatch):
    ledger = open_it(store)
    order: list[str] = []
    fsync, write = os.fsync, os.write

    def name(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(f"sync {name(fd)}"), fsync(fd))[1])
    monkeypatch.setattr(os, "write", lambda fd, data: (order.append(f"write {name(fd)}"), write(fd, data))[1])
    spend(ledger)
    part = LAST + ".part"
    halves = [f"write {CHAIN}"] * 2  # with a failpoint between them
    assert order == [f"write {part}", f"sync {part}", "sync state", *halves, f"sync {CHAIN}"]


def test_second_writer_is_told_to_wait(store, open_it):
    open_it(store)
    with store.exclusive(), raises("FW-LEDGER-005"), FileStore(store.folder, wait_seconds=0).exclusive():
        pass


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o701])
def test_a_folder_that_others_can_open_holds_no_ledger(store, open_it, mode):
    """Broken: whoever can write there puts a link in the place of a file that is being written."""
    store.folder.mkdir()
    store.folder.chmod(mode)
    with raises("FW-RESOURCE-301"):
        open_it(store)
    with raises("FW-RESOURCE-301"), store.open_run():
        pass
    assert list(store.folder.iterdir()) == []


def test_one_run_at_a_time_is_open_on_a_ledger(store, tmp_path):
    """Broken: two state folders that lead to one ledger train every round twice, each for itself."""
    link = tmp_path / "other-state"
    link.symlink_to(store.folder, target_is_directory=True)
    with store.open_run():
        for other in (FileStore(store.folder), FileStore(link)):
            with raises("FW-LEDGER-011"), other.open_run():
                pass
    with FileStore(link).open_run():
        pass


def test_a_folder_that_cannot_be_locked_opens_no_run(store, monkeypatch):
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with raises("FW-LEDGER-006"), store.open_run():
        pass


def test_concurrent_reservations_all_land_in_one_chain_under_the_cap(store, open_it, spend):
    """Each writer opens the lock for itself, so threads exclude each other exactly as processes do."""
    open_it(store, cap_epsilon=1.3)
    taken, refused = [], []

    def work(run: int) -> None:
        ledger = open_it(FileStore(store.folder), cap_epsilon=1.3)
        for number in range(3):
            try:
                taken.append(spend(ledger, number, run=f"run-{run}").head)
            except FedwardError as error:
                assert error.code == "FW-BUDGET-010"
                refused.append(run)

    threads = [threading.Thread(target=work, args=(run,)) for run in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book = verify(store)
    assert refused
    assert set(book.heads[1:]) == set(taken)
    assert len(taken) == len(book.reservations)
    assert book.spent() <= 1.3


@pytest.mark.attack("local user", "puts a link in the ledger's place")
def test_symbolic_link_is_not_followed(store, open_it, tmp_path):
    store.folder.mkdir(mode=0o700)
    (store.folder / LOCK).symlink_to(tmp_path / "elsewhere")
    with raises("FW-LEDGER-006"):
        open_it(store)


@pytest.mark.attack("operator", "puts an older ledger back")
def test_restored_backup_is_found_by_the_anchor(store, open_it, spend, tmp_path):
    anchor = AnchorFile(tmp_path / "other" / "anchor")
    ledger = open_it(store, anchor=anchor)
    spend(ledger, 1)
    backup = {path: path.read_bytes() for path in store.folder.iterdir()}
    spend(ledger, 2)
    newest = {path: path.read_bytes() for path in store.folder.iterdir()}
    for path, data in backup.items():
        path.write_bytes(data)
    with raises("FW-LEDGER-002") as refusal:
        open_it(store, anchor=anchor)
    assert refusal.value.exit_code == 11
    with raises("FW-LEDGER-002"):
        spend(ledger, 3)
    for path, data in newest.items():
        path.write_bytes(data)
    spend(open_it(store, anchor=anchor), 3)


@pytest.mark.attack("operator", "empties the ledger's folder")
def test_emptied_state_directory_is_found_by_the_anchor(store, open_it, spend, tmp_path):
    anchor = AnchorFile(tmp_path / "anchor")
    spend(open_it(store, anchor=anchor))
    for path in store.folder.iterdir():
        path.unlink()
    with raises("FW-LEDGER-002"):
        open_it(store, anchor=anchor)
    assert store.load() == []


@pytest.mark.attack("operator", "takes the anchor away")
def test_anchor_that_is_gone_is_not_begun_anew(store, open_it, spend, tmp_path):
    """A disk that is not mounted, or a witness that was deleted together with the newest rounds."""
    anchor = AnchorFile(tmp_path / "other" / "anchor")
    ledger = open_it(store, anchor=anchor)
    spend(ledger)
    shutil.rmtree(tmp_path / "other")
    for use in (lambda: spend(ledger, 2), lambda: open_it(store, anchor=anchor)):
        with raises("FW-LEDGER-002", match="missing"):
            use()
    assert not (tmp_path / "other").exists()
    anchor.begin(verify(store))
    spend(open_it(store, anchor=anchor), 2)
    with raises("FW-LEDGER-007", match="already"):
        anchor.begin(verify(store))


def test_ledger_that_ended_before_its_first_anchor_goes_on(store, open_it, spend, tmp_path):
    open_it(store)
    spend(open_it(store, anchor=AnchorFile(tmp_path / "anchor")))
    assert (tmp_path / "anchor").exists()


def test_anchor_behind_the_chain_is_what_a_crash_leaves(store, open_it, spend, tmp_path):
    path = tmp_path / "anchor"
    ledger = open_it(store, anchor=AnchorFile(path))
    spend(ledger, 1)
    behind = path.read_bytes()
    spend(ledger, 2)
    path.write_bytes(behind)
    spend(open_it(store, anchor=AnchorFile(path)), 3)
    AnchorFile(path).check(verify(store), required=True)
    assert path.read_bytes() != behind


@pytest.mark.parametrize("content", [b"", b"{}", b'{"index": 0, "head": "zz"}', b"[1]"])
def test_unreadable_anchor_stops_the_ledger(store, open_it, tmp_path, content):
    (tmp_path / "anchor").write_bytes(content)
    with raises("FW-LEDGER-002"):
        open_it(store, anchor=AnchorFile(tmp_path / "anchor"))


RECORDS = [
    Genesis("st-anna", bytes(32), 1e-5, 8.0),
    PatientSet(bytes(16) + bytes([1] * 16)),
    Settlement(3),
    Settlement(3, PLAN),
    Reservation("r", PLAN, 1, bytes(32), (Event("dpsgd", 0.1 + 0.2, 1 / 3, 4),), (), 1, None, at=5),
]


@pytest.mark.parametrize("record", RECORDS)
def test_records_survive_their_bytes_exactly(record):
    assert from_bytes(to_bytes(record)) == record


@pytest.mark.parametrize("record", RECORDS)
def test_mutated_records_are_damage_or_another_record_and_never_crash(record):
    body = to_bytes(record)
    for position in range(len(body)):
        for value in (0x00, 0x40, 0x60, 0x80, 0xA0, 0xF6, 0xFF):
            mutated = body[:position] + bytes([value]) + body[position + 1 :]
            try:
                again = from_bytes(mutated)
            except FedwardError as error:
                assert error.code == "FW-LEDGER-001"
                continue
            assert to_bytes(again) == mutated


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (PatientSet(b"a" * 16 + b"b" * 16), {"ids": b"b" * 16 + b"a" * 16}),
        (PatientSet(b"a" * 16 + b"b" * 16), {"ids": b"a" * 32}),
        (Settlement(1, PLAN), {"reservation": True}),
    ],
    ids=["not sorted", "one twice", "a truth for a number"],
)
def test_a_record_is_written_in_one_way_only(record, changes):
    """Otherwise one set, or one round, is found under one of its forms and charged again under the other."""
    value = decode(to_bytes(record), limit=1000)
    assert from_bytes(encode(value)) == record
    with raises("FW-LEDGER-001"):
        from_bytes(encode(value | changes))


def test_records_out_of_place_are_damage(open_it, spend):
    from fedward.privacy.book import Book
    from fedward.privacy.ledger import MemoryStore

    genesis, other = to_bytes(RECORDS[0]), [to_bytes(r) for r in RECORDS[1:]]
    reserve = to_bytes(Reservation("r", PLAN, 1, bytes(32), (Event("release", 9.0, 1.0, 1),)))
    for bodies in (
        [other[0]],
        [genesis, genesis],
        [genesis, other[1]],
        [genesis, other[2]],
        [genesis, reserve, reserve],
        [genesis, other[0], other[0]],
        [genesis, reserve, to_bytes(Settlement(1, PLAN)), to_bytes(Settlement(1, bytes(32)))],
    ):
        store = MemoryStore()
        for body in bodies:
            store.append(body)
        with raises("FW-LEDGER-001"):
            Book.replay(store.links)
    with raises("FW-LEDGER-001"):
        verify(MemoryStore())


def test_head_binds_its_index_and_the_head_before(open_it):
    one = follow([], b"x")
    two = follow([one], b"x")
    assert len({one.head, two.head, BEFORE_FIRST}) == 3
    assert read_frames(one.frame + two.frame) == ([one, two], len(one.frame) + len(two.frame))
    assert read_frames(two.frame) == ([], 0)
