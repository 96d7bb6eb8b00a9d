"""Whatever kills the process, and wherever: what was acknowledged is recorded, and at most one round more."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedward import storage
from fedward.errors import FedwardError
from fedward.privacy.events import Event
from fedward.privacy.ledger import CHAIN, LAST, FileStore, RoundCost, verify
from tests.codes import raises

PLAN = bytes(range(32))


class Crashed(BaseException):
    """The process is gone: nothing may catch it and tidy up."""


class Fuse:
    """Lets so many system calls through, cuts the next write short, and crashes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: int, part: float, failure: BaseException) -> None:
        self.left, self.part, self.failure = calls, part, failure
        real = {"write": os.write, "fsync": os.fsync, "replace": Path.replace, "open": os.open}
        monkeypatch.setattr(storage.os, "write", lambda fd, data: self.write(real["write"], fd, data))
        monkeypatch.setattr(storage.os, "fsync", lambda fd: self.step(real["fsync"], fd))
        monkeypatch.setattr(storage.os, "open", lambda *a, **k: self.step(real["open"], *a, **k))
        monkeypatch.setattr(Path, "replace", lambda one, other: self.step(real["replace"], one, other))

    def step(self, real, *arguments, **more):
        self.left -= 1
        if self.left < 0:
            raise self.failure
        return real(*arguments, **more)

    def write(self, real, descriptor, data):
        if self.left == 0:
            real(descriptor, bytes(data)[: int(len(data) * self.part)])
        return self.step(real, descriptor, data)


def recorded(store: FileStore) -> list[int]:
    return sorted(r.round_number for r in verify(store).reservations.values())


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_crash_at_every_system_call(tmp_path, open_it, spend, monkeypatch, part):
    for calls in range(60):
        store, acknowledged = FileStore(tmp_path / f"{part}-{calls}"), []
        with monkeypatch.context() as patch:
            fuse = Fuse(patch, calls, part, Crashed())
            try:
                ledger = open_it(store)
                for number in (1, 2, 3):
                    spend(ledger, number)
                    acknowledged.append(number)
            except Crashed:
                pass
        after = open_it(store)
        assert set(acknowledged) <= set(recorded(store)) <= {*acknowledged, len(acknowledged) + 1}
        spend(after, len(acknowledged) + 1)
        spend(after, 9)
        assert recorded(store) == [*range(1, len(acknowledged) + 2), 9]
        if fuse.left >= 0:
            assert acknowledged == [1, 2, 3]
            return
    raise AssertionError("the fuse never lasted to the end")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_disk_error_at_every_system_call_is_told_and_loses_nothing(tmp_path, open_it, spend, monkeypatch, number):
    for calls in range(40):
        store = FileStore(tmp_path / str(calls))
        ledger = open_it(store)
        spend(ledger, 1)
        with monkeypatch.context() as patch:
            Fuse(patch, calls, 0.5, OSError(number, "simulated"))
            try:
                spend(ledger, 2)
            except FedwardError as error:
                assert (error.code, error.exit_code) == ("FW-LEDGER-006", 13)
                assert "simulated" not in error.message
            else:
                assert recorded(store) == [1, 2]
                return
        assert recorded(store) in ([1], [1, 2])
        spend(ledger, 2)
        assert recorded(store) == [1, 2]
    raise AssertionError("the disk never worked")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_directory(tmp_path, open_it):
    tmp_path.chmod(0o500)
    try:
        with raises("FW-LEDGER-006"):
            open_it(FileStore(tmp_path / "state"))
    finally:
        tmp_path.chmod(0o700)


def test_torn_last_record_counts_as_spent(store, open_it, spend):
    ledger = open_it(store)
    spend(ledger, 1)
    chain = store.folder / CHAIN
    before = chain.stat().st_size
    spend(ledger, 2)
    whole = chain.read_bytes()
    for size in range(before, len(whole)):
        for torn in (whole[:size], whole[:size] + bytes(len(whole) - size)):
            chain.write_bytes(torn)
            assert recorded(store) == [1, 2]
    spent = open_it(store).spent()
    assert chain.read_bytes() == whole
    assert spent == ledger.spent()


def test_chain_shorter_than_one_record_below_its_end_is_damage(store, open_it, spend):
    ledger = open_it(store)
    sizes = []
    chain = store.folder / CHAIN
    for number in (1, 2, 3):
        sizes.append(chain.stat().st_size)
        spend(ledger, number)
    whole = chain.read_bytes()
    for torn in (b"", whole[: sizes[0]], whole[: sizes[1]], whole[: sizes[2] - 1], whole + b"\0", whole + whole):
        chain.write_bytes(torn)
        with raises("FW-LEDGER-001") as refusal:
            open_it(store)
        assert refusal.value.exit_code == 11
        assert chain.read_bytes() == torn


@pytest.mark.attack("local user", "alters any byte of the ledger")
def test_every_altered_byte_is_found(store, open_it, spend):
    spend(open_it(store), 1)
    spend(open_it(store), 2)
    path, last = store.folder / CHAIN, (store.folder / LAST).read_bytes()
    whole = path.read_bytes()
    for position in range(0, len(whole) - len(last), 3):
        altered = bytearray(whole)
        altered[position] ^= 1
        path.write_bytes(altered)
        with raises("FW-LEDGER-001"):
            verify(store)


@pytest.mark.parametrize("name", [CHAIN, LAST])
def test_missing_file_is_damage_not_a_new_ledger(store, open_it, spend, name):
    spend(open_it(store), 1)
    (store.folder / name).unlink()
    with raises("FW-LEDGER-001"):
        open_it(store)


CHILD = """
import sys
from pathlib import Path
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, Ledger, Population, RoundCost
ledger = Ledger(FileStore(Path(sys.argv[1])), site="st-anna", cap_epsilon=8.0, delta=1e-5,
                population=Population("salt", 0.4))
cost = [Event("release", 3.5, 1.0, 1)]
if sys.argv[2] == "run":
    ledger.reserve_run(run="run-1", plan_hash=bytes(range(32)), rounds=[RoundCost(r, cost) for r in range(1, 21)])
for r in range(1, 21):
    ledger.reserve(run="run-1", plan_hash=bytes(range(32)), round_number=r, training=cost)
    print(r, flush=True)
    if r == 3:
        sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["rounds", "run"])
@pytest.mark.attack("operator", "kills the daemon between charge and training")
def test_kill_9_of_a_real_process(store, open_it, mode):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store.folder), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert [int(child.stdout.readline()) for _ in range(3)] == [1, 2, 3]
        os.kill(child.pid, signal.SIGKILL)
    ledger = open_it(store)
    if mode == "rounds":
        assert recorded(store) == [1, 2, 3]
        return
    rounds = [RoundCost(r, [Event("release", 3.5, 1.0, 1)]) for r in range(1, 21)]
    assert recorded(store) == list(range(1, 21))
    assert 5.0 < ledger.spent() < 8.0
    with raises("FW-BUDGET-010"):
        ledger.preflight(run="run-2", plan_hash=PLAN, rounds=rounds)
