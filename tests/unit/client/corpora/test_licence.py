import pytest

from fedward.client.corpora import CORPORA
from fedward.client.corpora.licence import licence_of
from fedward.client.folder import check_folder

EICU = CORPORA["eicu"]


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE.txt", "Licence.md", "COPYING"])
def test_a_licence_file_beside_the_tables_says_more_than_the_data_set(tmp_path, name):
    (tmp_path / name).write_text("\n## ODC Open Database License (ODbL)\n\nPreamble\n")
    assert licence_of(EICU, tmp_path) == f"ODC Open Database License (ODbL) ({name} of the folder)"


def test_without_one_it_is_the_data_sets(tmp_path):
    (tmp_path / "LICENSED_PATIENTS.csv").write_text("x\n")
    (tmp_path / "LICENSE").mkdir()
    assert licence_of(EICU, tmp_path) == EICU.licence
    assert licence_of(EICU, tmp_path / "file.json") == EICU.licence


def test_a_licence_file_is_foreign_text(tmp_path):
    (tmp_path / "LICENSE").write_bytes(b"\x1b[31m# " + b"x" * 500 + b"\xff\n")
    assert licence_of(EICU, tmp_path).startswith("[31m# xxx")
    assert len(licence_of(EICU, tmp_path)) < 150
    (tmp_path / "LICENSE").write_bytes(b"\n\n")
    assert licence_of(EICU, tmp_path) == "stated by LICENSE of the folder"


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("do not read")
    (tmp_path / "LICENSE").symlink_to(tmp_path / "secret")
    assert licence_of(EICU, tmp_path) == EICU.licence


def test_the_check_prints_it(tables):
    folder = tables("mimic3")
    (folder / "LICENSE.txt").write_text("Open Database License v1.0\n")
    assert check_folder(folder).licence == "Open Database License v1.0 (LICENSE.txt of the folder)"
