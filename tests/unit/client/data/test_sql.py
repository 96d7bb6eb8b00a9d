from __future__ import annotations

from pathlib import Path

import pytest

from fedward.client.data.documents import files
from fedward.client.data.sql import inserted
from tests.codes import raises


def rows(folder: Path, dump: str, table: str = "t") -> list[dict[str, str | None]]:
    (folder / "a.sql").write_text(dump, encoding="utf-8", newline="")
    return [row for _, _, row in inserted(files(folder)[0], (table,))]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("'a'", "a"), ("''", ""), ("'it''s'", "it's"), (r"'it\'s'", "it's"), (r"'a\\'", "a\\"), (r"'a\nb\t'", "a\nb\t"),
        ("'a\nb'", "a\nb"), ("'a;(b),c'", "a;(b),c"), ("'-- a'", "-- a"), ("'/* a'", "/* a"), ("NULL", None),
        ("'NULL'", "NULL"), ("007", "007"), ("-1.5", "-1.5"), ('"a\'b"', "a'b"), ("'`'", "`"), (r"'50\%'", "50%"),
    ],
)  # fmt: skip
def test_cells(tmp_path: Path, cell: str, value: str | None) -> None:
    dump = "INSERT INTO `t` (`a`, `b`) VALUES (CELL,1),\n(2,CELL);"
    assert rows(tmp_path, dump.replace("CELL", cell)) == [
        {"a": value, "b": "1"},
        {"a": "2", "b": value},
    ]


def test_what_is_no_row_is_passed_over(tmp_path: Path) -> None:
    dump = (
        "-- INSERT INTO `t` (`a`) VALUES (1);\n# (\n/*!40101 SET NAMES utf8 */;\n/* several\n lines; ' */\n"
        "CREATE TABLE `t` (`a` int COMMENT 'x;y');\nINSERT INTO `u` (`a`) VALUES ('(;'),(3);\n"
        "INSERT IGNORE INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2;\ninsert into `t` (`a`) values\n\t(4)\n;\n"
    )
    assert rows(tmp_path, dump) == [{"a": "1"}, {"a": "4"}]


@pytest.mark.parametrize(
    ("dump", "code"),
    [
        ("INSERT INTO `t` VALUES (1);", "FW-DATA-032"),
        ("INSERT INTO `t` (`a`) SELECT 1;", "FW-DATA-032"),
        ("INSERT INTO `t` (`a`) VALUES (1,2);", "FW-DATA-032"),
        ("INSERT INTO `t` (`a`) VALUES (f(1));", "FW-DATA-032"),
        ("INSERT INTO `t` (`a`) VALUES (1", "FW-DATA-005"),
        ("INSERT INTO `t` (`a`) VALUES ('1);", "FW-DATA-005"),
        ("/* INSERT", "FW-DATA-005"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, dump: str, code: str) -> None:
    with raises(code, match=r"a\.sql"):
        rows(tmp_path, dump)
