"""What cannot be written is met before work begins; /proc refuses files to everybody, the superuser too."""

import errno
import os
from pathlib import Path

import pytest

from fedward import places
from fedward.places import Place, check_output, check_places
from tests.codes import raises

NOWHERE = Path("/proc/fedward")


def test_places_that_can_be_written_leave_nothing_behind(tmp_path):
    (tmp_path / "log").write_text("line\n")
    found = [Place(tmp_path, "state folder"), Place(tmp_path / "later" / "deeper", "state folder")]
    found += [Place(tmp_path / "log", "file", is_file=True), Place(tmp_path / "new", "file", is_file=True)]
    assert check_places(found) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_text() == "line\n"


def test_a_place_that_refuses_files_is_named_with_the_reason():
    with raises("FW-RESOURCE-303") as caught:
        check_places([Place(NOWHERE / "anchor", "anchor file", is_file=True)])
    assert "anchor file /proc/fedward/anchor" in caught.value.message


def test_a_file_in_the_place_of_a_folder_and_a_folder_in_that_of_a_file(tmp_path):
    (tmp_path / "file").touch()
    for place in (Place(tmp_path / "file", "state folder"), Place(tmp_path / "file" / "x", "file", is_file=True)):
        with raises("FW-RESOURCE-303"):
            check_places([place])
    with raises("FW-RESOURCE-303"):
        check_places([Place(tmp_path, "file", is_file=True)])


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with raises("FW-RESOURCE-303"):
        check_places([Place(tmp_path / "link", "file", is_file=True)])
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_what_the_system_says_is_told(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(places.os, "write", refuse)
    with raises("FW-RESOURCE-303") as caught:
        check_places([Place(tmp_path, "state folder")])
    assert os.strerror(number) in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_tried_where_it_will_be(tmp_path):
    check_output(tmp_path / "new" / "folder")
    with raises("FW-RESOURCE-303"):
        check_output(NOWHERE / "run")
