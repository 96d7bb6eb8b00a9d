import json

import pytest

from fedward.schema import SCHEMA_FILE, Schema, keep_copy
from tests.codes import raises


def marked(folder):
    (folder / "marks").write_text((folder / "marks").read_text() + "x" if (folder / "marks").exists() else "x")


TWO = Schema("hospital", steps=[marked, marked])


def test_a_folder_without_a_version_is_of_the_first_release_and_is_carried_over_once(tmp_path):
    assert TWO.of(tmp_path) == 0
    for _ in range(2):
        TWO.settle(tmp_path)
        assert (tmp_path / "marks").read_text() == "xx"
    assert json.loads((tmp_path / SCHEMA_FILE).read_text())["version"] == TWO.of(tmp_path) == 2


def test_a_later_version_is_refused_and_nothing_is_changed(tmp_path):
    Schema("hospital", steps=[marked] * 3).settle(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for refuse in (TWO.check, TWO.settle):
        with raises("FW-VERSION-307") as caught:
            refuse(tmp_path)
        assert "schema 3" in caught.value.message
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "hospital"}', b"\xff" * 99, b"x" * 9999])
def test_a_damaged_schema_file_is_refused(tmp_path, content):
    (tmp_path / SCHEMA_FILE).write_bytes(content)
    with raises("FW-INTEGRITY-315"):
        TWO.check(tmp_path)


def test_a_folder_of_another_kind_is_refused(tmp_path):
    Schema("coordinator", steps=[]).settle(tmp_path)
    with raises("FW-INTEGRITY-315"):
        TWO.check(tmp_path)


def test_an_interrupted_step_begins_again(tmp_path):
    def interrupted(folder):
        raise OSError

    with pytest.raises(OSError):
        Schema("hospital", steps=[marked, interrupted]).settle(tmp_path)
    assert TWO.of(tmp_path) == 0


def test_what_a_step_replaces_is_kept_as_it_was_first(tmp_path):
    path = tmp_path / "run.json"
    keep_copy(path, 0)
    assert list(tmp_path.iterdir()) == []
    for content in ("old", "new"):
        path.write_text(content)
        keep_copy(path, 0)
    assert (tmp_path / "run.json.schema-0").read_text() == "old"
