import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from fedward import storage
from fedward.notify import notify
from fedward.storage import append_file, replace_file
from tests.codes import raises


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_and_folders_are_born_private(tmp_path):
    old = os.umask(0)
    try:
        folder = storage.private_folder(tmp_path / "state")
        storage.write_new_secret(folder / "key", b"secret")
        storage.replace_private(folder / "other", b"secret")
    finally:
        os.umask(old)
    assert (mode(folder), mode(folder / "key"), mode(folder / "other")) == (0o700, 0o600, 0o600)
    assert storage.read_secret(folder / "key") == b"secret"


def test_a_key_is_never_written_over(tmp_path):
    storage.write_new_secret(tmp_path / "key", b"one")
    with raises("FW-CONFIG-301"):
        storage.write_new_secret(tmp_path / "key", b"two")
    assert (tmp_path / "key").read_bytes() == b"one"


def test_a_secret_that_others_may_read_is_refused(tmp_path):
    storage.write_new_secret(tmp_path / "key", b"one")
    (tmp_path / "key").chmod(0o640)
    with raises("FW-AUTH-301") as caught:
        storage.read_secret(tmp_path / "key")
    assert caught.value.exit_code == 7
    with raises("FW-AUTH-301"):
        storage.read_secret(tmp_path / "absent")


def test_an_open_folder_and_an_unusable_one_are_refused(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    with raises("FW-RESOURCE-301"):
        storage.private_folder(tmp_path / "open")
    (tmp_path / "file").write_text("x")
    with raises("FW-RESOURCE-301"):
        storage.private_folder(tmp_path / "file" / "below")


def test_a_link_in_place_of_a_key_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "key.part").symlink_to(tmp_path / "target")
    storage.replace_private(tmp_path / "key", b"new")
    assert ((tmp_path / "target").read_bytes(), (tmp_path / "key").read_bytes()) == (b"mine", b"new")
    assert not (tmp_path / "key").is_symlink()


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 11)
    assert storage.read_limited(tmp_path / "big", 11) == b"x" * 11
    with raises("FW-RESOURCE-301"):
        storage.read_limited(tmp_path / "big", 10)


def test_the_service_manager_is_told_and_nobody_else(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    for address in ("@fedward-test-" + str(os.getpid()), str(tmp_path / "s")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind("\0" + address[1:] if address.startswith("@") else address)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            assert notify("READY=1")
            assert listener.recv(64) == b"READY=1"
    assert not notify("READY=1"), "a manager that has gone is no error"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_neither_waited_for_nor_read(tmp_path, kind):
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    with raises("FW-RESOURCE-301"):
        storage.read_limited(path, 100)
    with raises("FW-AUTH-301"):
        storage.read_secret(path)


def test_mode_and_content_are_of_one_file(tmp_path, monkeypatch):
    """A file that is exchanged between a look at its mode and its reading would be believed."""
    path, wide = tmp_path / "key", tmp_path / "wide"
    storage.write_new_secret(path, b"secret")
    wide.write_bytes(b"planted")
    wide.chmod(0o644)
    look = Path.stat

    def exchange(self, **options):
        seen = look(self, **options)
        if self == path:
            wide.replace(path)
        return seen

    monkeypatch.setattr(Path, "stat", exchange)
    assert storage.read_secret(path) == b"secret"


def test_names_are_made_durable_too(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_mode), sync(descriptor)))
    storage.replace_private(tmp_path / "decision", b"no")
    assert [stat.S_ISDIR(mode) for mode in synced] == [False, True]


@pytest.mark.attack("local user", "owns the folder that state is kept in")
def test_a_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    """Somebody who made the folder first could read all that is put into it."""
    folder = storage.private_folder(tmp_path / "state")
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with raises("FW-RESOURCE-301"):
        storage.private_folder(folder)


@pytest.mark.attack("local user", "puts a link in the place of a file that is being replaced")
def test_a_link_in_the_place_of_a_finished_file_is_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"of somebody else")
    (tmp_path / "vector.part").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"vector\.part"):
        storage.place_file(tmp_path / "vector.part", tmp_path / "vector")
    assert not (tmp_path / "vector").exists()
    storage.replace_file(tmp_path / "vector", b"own")
    assert (tmp_path / "vector").read_bytes() == b"own"
    assert (tmp_path / "other").read_bytes() == b"of somebody else"


@pytest.mark.attack("local user", "puts a link in the place of a file that is being written")
@pytest.mark.parametrize("write", [append_file, replace_file])
def test_a_link_in_place_of_a_file_receives_nothing(tmp_path, write):
    """Broken: whoever can put a link into a folder has a state or a ledger written over another file."""
    target = tmp_path / "elsewhere"
    target.write_bytes(b"theirs")
    (tmp_path / "state").symlink_to(target)
    with contextlib.suppress(OSError):
        write(tmp_path / "state", b"ours")
    assert target.read_bytes() == b"theirs"
