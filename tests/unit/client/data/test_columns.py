"""Tables in columns: every way in which a table arrives, and what is said about one that is broken."""

import gzip
import re
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.client.data import blocks
from fedward.client.data.batch import EMPTY, Batch
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from tests.codes import raises

pytestmark = pytest.mark.torch  # needs the client extra

PLAIN = "SUBJECT_ID,VALUENUM,CHARTTIME,TEXT\n7,1.5,2150-03-01 12:00:00,a\n8,,2150-03-02,b\n"


def write(folder, content, name="LABEVENTS.csv"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(folder, *names, **options):
    return list(
        Table.need(folder, "labevents").read(names or ("subject_id", "valuenum", "charttime", "text"), **options)
    )


def cells(folder, name):
    return [cell for batch in read(folder, name) for cell in batch.text(name).to_pylist()]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ehr"


def zstd(content):
    return pa.Codec("zstd").compress(content, asbytes=True)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("LABEVENTS.csv", bytes),
        ("labevents.csv.gz", gzip.compress),
        ("LabEvents.CSV.GZ", bytes),  # plain in spite of its name
        ("labevents.csv", gzip.compress),  # packed in spite of its name
        ("labevents.csv.zst", zstd),
        ("labevents.tsv", lambda content: content.replace(b",", b"\t")),
        ("labevents.csv", lambda content: content.replace(b"\n", b"\r\n")),
        ("labevents.csv", lambda content: b"\xef\xbb\xbf" + content),
        ("labevents.csv", lambda content: content.rstrip(b"\n")),
        ("labevents.csv", lambda content: content.replace(b"\n", b"\n\n")),
        ("labevents.csv", lambda content: content.replace(b"a", b'"a"')),
    ],
)
def test_the_same_table_in_every_packing(folder, name, pack):
    (batch,) = read(write(folder, pack(PLAIN.encode()), name))
    assert batch.identifiers("subject_id").to_pylist() == ["7", "8"]
    assert batch.numbers("valuenum").to_pylist() == [1.5, None]
    assert batch.text("text").to_pylist() == ["a", "b"]
    times = batch.moments("charttime")
    assert times.dated.tolist() == [False, True]
    assert np.diff(times.seconds).tolist() == [12 * 3600.0]
    assert str(times.to_list()[0]) == "2150-03-01 12:00:00"


def test_a_parquet_file_is_the_same_table(folder):
    folder.mkdir()
    table = pa.table(
        {
            "Subject_ID": pa.array([7, 8], pa.int64()),
            "valuenum": pa.array([1.5, None], pa.float64()),
            "charttime": pa.array([datetime(2150, 3, 1, 12), None], pa.timestamp("us")),
            "text": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    pq.write_table(table, folder / "labevents.parquet")
    (batch,) = read(folder)
    assert batch.identifiers("subject_id").to_pylist() == ["7", "8"]
    assert batch.numbers("valuenum").to_pylist() == [1.5, None]
    assert batch.moments("charttime").dated.tolist() == [False, False]
    assert batch.text("text").to_pylist() == ["a", "b"]
    assert Table.need(folder, "labevents").rows() == 2


@pytest.mark.parametrize("empty", sorted(EMPTY))
def test_empty_cells_in_every_spelling(folder, empty):
    write(folder, f"subject_id,valuenum\n7,{empty}\n")
    (batch,) = read(folder, "subject_id", "valuenum")
    assert batch.numbers("valuenum").to_pylist() == [None]
    write(folder, f'subject_id,valuenum\n7,"{empty}"\n')
    (batch,) = read(folder, "subject_id", "valuenum")
    assert batch.numbers("valuenum").to_pylist() == [None]


@pytest.mark.parametrize(
    ("written", "read_as"), [("7.0", "7"), (" 7 ", "7"), ("007", "007"), ("7.5", "7.5"), ("-3.0", "-3")]
)
def test_identifiers_have_one_spelling(folder, written, read_as):
    (batch,) = read(write(folder, f"subject_id,x\n{written},\n"), "subject_id")
    assert batch.required("subject_id").to_pylist() == [read_as]


def test_flags(folder):
    (batch,) = read(write(folder, "f\n0\n1.0\nTrue\nn\n\\N\n"), "f")
    assert batch.flags("f").to_pylist() == [False, True, True, False, None]
    (batch,) = read(write(folder, "f\n0\nperhaps\n"), "f")
    with raises("FW-DATA-004", match="row 3, column F: not 0 or 1"):
        batch.flags("f")


@pytest.mark.parametrize(
    ("column", "cell", "kind"),
    [("numbers", "5,5", "a number"), ("numbers", "<5", "a number"), ("numbers", "inf", "a number"),
     ("moments", "31.12.2150", "a time"), ("moments", "0001-01-01", "a time of 1750 to 2349"),
     ("moments", "2150-02-30 10:00:00", "a time")],
)  # fmt: skip
def test_a_wrong_cell_is_named_or_counted(folder, column, cell, kind):
    write(folder, f'k,c\n1,\n2,"{cell}"\n3,\n')
    (batch,) = read(folder, "k", "c")
    with raises("FW-DATA-004", match=f"LABEVENTS.csv, row 3, column C: not {kind}"):
        getattr(batch, column)("c")
    drops = Drops()
    getattr(batch, column)("c", drops)
    assert drops.to_value() == [{"table": "LABEVENTS.csv", "reason": f"C is not {kind}", "count": 1, "first_row": 3}]


def test_times_with_zones_become_utc(folder):
    (batch,) = read(write(folder, "t\n2031-03-02T12:00:00+02:00\n2031-03-02 12:00:00Z\n2031-03-02 12:00:00\n"), "t")
    assert [time.hour for time in batch.moments("t").to_list()] == [10, 12, 12]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"subject_id;valuenum\n7;1\n", "another separator"),
        (b"subject_id,valuenum\n7,1\n8\n", "Row 3 .* has 1 cells, the header 2"),
        (b"subject_id,valuenum\n7,1\n8,1,2\n", "Row 3 .* has 3 cells"),
        (b'subject_id,valuenum\n7,"1 "x" y"\n', "Row 2 .* quotation mark"),
        (b"subject_id,valuenum\n7,a\rb\n", "Row 2 .* line break"),
        (b'subject_id,valuenum\n7,"1\n', "Row 2 .* quotation mark"),
        ("subject_id,valuenum\n7,fièvre\n".encode("latin-1"), "not encoded as UTF-8: row 2"),
        ("subject_id,valuenum\n7,发热咳嗽\n".encode("gb18030"), "GB18030"),
        ("subject_id,valuenum\n7,1\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(PLAIN.encode() * 9, mtime=0)[:-20], "ends early"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:20] + b"xx" * 30, "damaged"),
        (b"PK\x03\x04zip", "zip archive"),
        (b"PAR1 nothing", "damaged"),
    ],
)  # fmt: skip
def test_a_broken_table_is_named_with_its_row(folder, content, words):
    with raises("FW-DATA-005", match=words):
        read(write(folder, content), "subject_id", "valuenum")


def test_a_missing_column_or_table_is_named(folder):
    write(folder, PLAIN)
    with raises("FW-DATA-003", match="no column ITEMID, UNIT"):
        read(folder, "subject_id", "itemid", "unit")
    with raises("FW-DATA-002"):
        Table.need(folder, "patients")
    with raises("FW-DATA-011"):
        Table.find(folder / "no", "patients")


def test_two_files_of_one_table_are_refused(folder):
    write(write(folder, PLAIN), gzip.compress(PLAIN.encode(), mtime=0), "LABEVENTS.csv.gz")
    with raises("FW-DATA-013", match="LABEVENTS.csv, LABEVENTS.csv.gz"):
        Table.find(folder, "labevents")


def test_a_directory_in_place_of_a_table_is_not_taken_for_one(folder):
    (folder / "labevents.csv").mkdir(parents=True)
    with raises("FW-DATA-005", "FW-DATA-002"):
        read(folder, "subject_id")


CELL = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(['a "b"', "x\ny", "1,5"])


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=30), chunk=st.integers(16, 200))
def test_any_text_comes_back_whatever_the_blocks(tmp_path_factory, rows, chunk):
    import csv
    import io

    folder, text = tmp_path_factory.mktemp("t"), io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("a", "b"), *rows])
    write(folder, text.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK", chunk)
        batches = read(folder, "a", "b")
    found = [
        pair
        for batch in batches
        for pair in zip(batch.prose("a").to_pylist(), batch.prose("b").to_pylist(), strict=True)
    ]
    expected = [tuple("" if cell in EMPTY else cell for cell in row) for row in rows if list(row) != [""]]
    assert found == expected
    assert [row for batch in batches for row in batch.rows] == list(range(2, 2 + len(found)))


@given(st.text('a",\n\r .0', max_size=60), st.booleans())
def test_both_ways_through_a_block_agree(tmp_path_factory, text, wide):
    """Arrow reads what the strict reader reads, and leaves to it what that refuses."""
    folder = tmp_path_factory.mktemp("both")
    write(folder, f"A,B\n{text}" if wide else f"A\n{text}")

    def found():
        try:
            batches = list(Table.need(folder, "labevents").read(("a",)))
        except DataError as error:
            return error.code
        return [cell for batch in batches for cell in batch.columns["a"].to_pylist()]

    fast = found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks.ArrowCsv, "read", lambda *_: None)
        assert found() == fast


@given(st.text('a"",\n\r', max_size=300))
def test_where_a_mark_begins_and_ends_a_cell(text):
    """Looking at 64 letters together tells what looking at each mark tells."""
    marks = [place for place, letter in enumerate(text) if letter == '"']
    right = len(marks) % 2 == 0 and all(
        (text[place - 1 : place] or "\n") in '",\n\r'
        if number % 2 == 0
        else (text[place + 1 : place + 2] or "\n") in '",\n\r'
        for number, place in enumerate(marks)
    )
    assert blocks.well_quoted(text.encode(), ",") is right


@given(st.lists(st.none() | st.text("a0. \n\u00a0é", max_size=4), max_size=8), st.integers(0, 3))
def test_codes_are_the_identifiers_and_blanks_are_looked_for_in_every_cell(cells, skipped):
    """Of a part of an array, too, whose neighbours are none of its cells."""
    part = pa.array(cells, pa.string())[skipped:]
    batch = Batch("f", np.arange(len(part)), {"a": part})
    expected = [re.sub(r"^(-?\d+)\.0+$", r"\1", cell.strip()) or None if cell else None for cell in cells[skipped:]]
    assert batch.identifiers("a").to_pylist() == expected
    codes = batch.codes("a")
    assert codes.to_pylist() == expected
    assert codes.indices.null_count == expected.count(None)
    assert len(codes.dictionary) == len({*expected} - {None})


def test_rows_of_rows_are_picked_from_the_same_columns():
    batch = Batch("f", np.arange(2, 8), {"a": pa.array(list("uvwxyz")), "b": pa.array([None, *"vwxyz"])})
    some = batch.where(np.array([True, False, True, True, False, True])).where(np.array([False, True, True, False]))
    assert some.rows.tolist() == [4, 5]
    assert {name: cells.to_pylist() for name, cells in some.columns.items()} == {"a": ["w", "x"], "b": ["w", "x"]}
    assert len(some.columns) == 2
    assert some.where(pa.array([None, True])).text("a").to_pylist() == ["x"]


def test_quoted_cells_are_read_by_arrow(folder, monkeypatch):
    monkeypatch.setattr(Table, "_by_csv", None)
    write(folder, '"SUBJECT_ID","TEXT"\n7,"a, ""b"""\n"8",""\n')
    assert cells(folder, "text") == ['a, "b"', None]
