import io
import json
import tarfile

import pytest

from fedward.config import parse
from fedward.server.deployment import backup as backups
from fedward.server.deployment.backup import PIECE_BYTES, SCRYPT_COST, SealedReader, SealedWriter, back_up, restore
from fedward.server.deployment.records import RunRecord, Runs
from fedward.server.deployment.settings import ServerFolders, load_server_config
from fedward.server.job_files import FederationJob
from fedward.storage import FolderInUseError, FolderLock, replace_private
from tests.codes import raises

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(autouse=True)
def _cheap_guesses(monkeypatch):
    """The real cost is for those who guess, not for tests."""
    monkeypatch.setattr(backups, "SCRYPT_COST", 2**4)


@pytest.fixture
def kept(coordinator):
    """A coordinator with a hospital, an open invitation, an open run, and things that need no backup."""
    folders = coordinator.folders
    applicant = coordinator.applicant("st-anna")
    coordinator.accept(applicant.request(coordinator.sites.invite("st-anna", hours=1)))
    coordinator.sites.invite("st-bede", hours=1)
    runs = Runs(folders)
    journal = folders.runs / "icu-1" / "journal" / "rounds"
    journal.mkdir(parents=True)
    (journal / "round-1").write_bytes(bytes(3 * PIECE_BYTES))
    record = RunRecord(name="icu-1", state="running", plan_hash="", sites=["st-anna"], submitted=1, flower_run=7)
    replace_private(folders.runs / "icu-1" / "run.json", record.model_dump_json().encode())
    job = runs._job("icu-1", 33.0)
    (folders.runs / "icu-1" / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    folders.superlink.mkdir()
    (folders.superlink / "superlink.db").write_bytes(b"x")
    replace_private(folders.control, b"{}")
    return coordinator


@pytest.fixture
def backup(kept, tmp_path):
    path = tmp_path / "icu.backup"
    assert back_up(kept.config, path, PASSPHRASE, now=1e9) > 8
    return path


def test_a_coordinator_comes_back_in_a_new_folder(kept, backup, tmp_path):
    restored = restore(backup, tmp_path / "new", PASSPHRASE)
    config = load_server_config(restored.config)
    folders = ServerFolders(config.folder)
    assert (restored.made, config.folder, config.listen) == (10**9, tmp_path / "new" / "state", kept.config.listen)
    assert folders.identity().public == kept.identity.public
    assert (folders.sites / "st-anna.json").read_bytes() == (kept.folders.sites / "st-anna.json").read_bytes()
    assert (folders.runs / "icu-1/journal/rounds/round-1").read_bytes() == bytes(3 * PIECE_BYTES)
    assert not folders.superlink.exists() and not folders.control.exists()
    for path in (tmp_path / "new").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_nothing_goes_on_by_itself_after_a_restore(kept, backup, tmp_path):
    restored = restore(backup, tmp_path / "new", PASSPHRASE)
    folders = ServerFolders(tmp_path / "new" / "state")
    run = Runs(folders).get("icu-1")
    assert restored.paused == ("icu-1",)
    assert (run.state, run.flower_run) == ("paused", None)
    assert list(folders.invites.iterdir()) == [], "a code that was used since would admit a second time"
    text = (folders.runs / "icu-1" / "job.json").read_text(encoding="utf-8")
    job = parse(json.loads(text), FederationJob, source="job")
    assert str(kept.folders.root) not in text
    assert (job.identity, job.discover_seconds) == (str(folders.identity_file), 33.0)


def test_a_backup_tells_nothing_and_is_for_one_user(kept, backup):
    data = backup.read_bytes()
    for secret in (kept.folders.identity_file.read_bytes(), b"st-anna", b"icu-study", b"BEGIN"):
        assert secret not in data
    assert backup.stat().st_mode & 0o077 == 0


def test_no_backup_while_somebody_writes(kept, tmp_path):
    for folder in (kept.folders.root, kept.folders.runs / "icu-1" / "journal"):
        lock = FolderLock(folder)
        try:
            with pytest.raises(FolderInUseError):
                back_up(kept.config, tmp_path / "b", PASSPHRASE, now=1.0)
        finally:
            lock.release()
        assert not (tmp_path / "b").exists()


def test_nothing_is_written_over(kept, backup, tmp_path):
    with raises("FW-CONFIG-301"):
        back_up(kept.config, backup, PASSPHRASE, now=1.0)
    with raises("FW-CONFIG-301"):
        restore(backup, kept.path.parent, PASSPHRASE)
    with raises("FW-RESOURCE-301"):
        restore(tmp_path / "none", tmp_path / "new", PASSPHRASE)


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(backups.MAGIC) + 16 + 2 * (PIECE_BYTES + 16)],
        lambda data: data + b"x",
        lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
        lambda data: b"other" + data,
        lambda data: b"",
    ],
)
def test_an_altered_backup_leaves_nothing_behind(backup, tmp_path, harm):
    backup.write_bytes(harm(backup.read_bytes()))
    with raises("FW-INTEGRITY-314") as caught:
        restore(backup, tmp_path / "new", PASSPHRASE)
    assert caught.value.exit_code == 11
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []


def test_another_or_a_short_passphrase_opens_nothing(kept, backup, tmp_path):
    for wrong in (b"correct horse battery stapler", b""):
        with raises("FW-AUTH-315") as caught:
            restore(backup, tmp_path / "new", wrong)
        assert caught.value.exit_code == 7
    with raises("FW-AUTH-315"):
        back_up(kept.config, tmp_path / "b", b"too short", now=1.0)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["/etc/x", "state/../../x", "link"])
def test_only_plain_files_below_the_folder_are_unpacked(tmp_path, name):
    with (tmp_path / "b").open("wb") as file:
        sealed = SealedWriter(file, PASSPHRASE)
        with tarfile.open(fileobj=sealed, mode="w|") as tar:
            member = tarfile.TarInfo(name)
            member.type = tarfile.SYMTYPE if name == "link" else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO())
        sealed.close()
    with raises("FW-INTEGRITY-314"):
        restore(tmp_path / "b", tmp_path / "new", PASSPHRASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_every_length_comes_back(size):
    file, plain = io.BytesIO(), bytes(range(256)) * (size // 256 + 1)
    sealed = SealedWriter(file, PASSPHRASE)
    for start in range(0, size, 1000):
        sealed.write(plain[start : min(size, start + 1000)])
    sealed.close()
    file.seek(0)
    reader, found = SealedReader(file, PASSPHRASE), b""
    while piece := reader.read(777):
        found += piece
    assert found == plain[:size]


def test_a_stream_cut_between_two_pieces_is_not_a_shorter_one():
    file = io.BytesIO()
    sealed = SealedWriter(file, PASSPHRASE)
    sealed.write(bytes(4 * PIECE_BYTES))
    sealed.close()
    cut = file.getvalue()[: len(backups.MAGIC) + 16 + 2 * (PIECE_BYTES + 16)]
    reader = SealedReader(io.BytesIO(cut), PASSPHRASE)
    with raises("FW-INTEGRITY-314"):
        reader.read(4 * PIECE_BYTES)


def test_pieces_cannot_be_swapped():
    file = io.BytesIO()
    sealed = SealedWriter(file, PASSPHRASE)
    sealed.write(bytes(4 * PIECE_BYTES))
    sealed.close()
    head, step = len(backups.MAGIC) + 16, PIECE_BYTES + 16
    data = file.getvalue()
    pieces = [data[start : start + step] for start in range(head, len(data), step)]
    pieces[1], pieces[2] = pieces[2], pieces[1]
    reader = SealedReader(io.BytesIO(data[:head] + b"".join(pieces)), PASSPHRASE)
    with raises("FW-INTEGRITY-314"):
        reader.read(4 * PIECE_BYTES)


def test_a_guess_costs_128_mebibytes():
    assert SCRYPT_COST * 8 * 128 == 128 * 1024**2
