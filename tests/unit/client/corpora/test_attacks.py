"""Every kind of bad input in every hospital layout: refused or counted, by file, row and column; nothing is guessed."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedward.client.corpora import CORPORA, StayCorpus, detect
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, known_at_prediction, render
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from tests.unit.client.corpora.layouts import (
    LAYOUTS,
    change_json,
    change_parquet,
    folder_of,
    moment,
    packed,
    rename_column,
    repeat_row,
    said,
)
from tests.unit.client.corpora.tables import change, change_rows, read_text, write_bytes

pytestmark = pytest.mark.torch  # reading examples asks the tasks, which need it

Tables = Callable[[str], Path]
CSV = [name for name in LAYOUTS if name not in ("fhir", "meds")]
CHINESE = "患者三天前出现咳嗽，无发热，血压正常。"


def named(folder: Path, *parts: str) -> None:
    """Asserts that one message, or one line of what was left out, has all ``parts``."""
    told = said(folder)
    assert any(all(part in each for part in parts) for each in told), (parts, told)


def texts(folder: Path, layout: str) -> list[tuple[str, str]]:
    """Patient and text at prediction time of each stay."""
    corpus = CORPORA[layout]
    assert isinstance(corpus, StayCorpus)
    chosen = [Chosen(stay, min(24.0, stay.outcome.unit_hours)) for stay in corpus.stays(folder)]
    recorded = corpus.events(folder, chosen)
    return sorted(
        (each.stay.patient, render(known_at_prediction([*each.stay.events, *recorded[each.stay.stay]], each.hours)))
        for each in chosen
    )


def test_every_layout_of_stays_is_here() -> None:
    assert set(LAYOUTS) == {name for name, corpus in CORPORA.items() if isinstance(corpus, StayCorpus)}


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["person", "stay", "value", "text"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_was_cut_off_is_named(tables: Tables, layout: str, what: str) -> None:
    folder = folder_of(tables, layout)
    path = packed(folder / LAYOUTS[layout].cells[what][0])
    path.write_bytes(path.read_bytes()[: -max(12, path.stat().st_size // 3)])
    if layout == "mapped":  # a mapping names its files
        mapping = folder / "mapping.toml"
        mapping.write_text(mapping.read_text(encoding="utf-8").replace(path.stem, path.name), encoding="utf-8")
    told = said(folder)
    file = LAYOUTS[layout].file(what).removesuffix(".gz")
    assert any("FW-DATA-005" in each and file in each and re.search("cut off|damaged", each) for each in told), told


@pytest.mark.parametrize("what", ["person", "stay", "value", "text"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_no_bytes_is_named(tables: Tables, layout: str, what: str) -> None:
    folder = folder_of(tables, layout)
    (folder / LAYOUTS[layout].cells[what][0]).write_bytes(b"")
    named(folder, "FW-DATA-005", LAYOUTS[layout].file(what), "is empty")


@pytest.mark.parametrize("layout", CSV)
def test_zero_bytes_in_a_table_are_named_by_row(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    path = folder / LAYOUTS[layout].cells["value"][0]
    content = read_text(path, "latin-1").encode("latin-1")
    lines = content.split(b"\n")
    write_bytes(path, b"\n".join([lines[0], lines[1] + b"\0\0\0", b"\0\0", *lines[2:]]))
    told = said(folder)
    assert any(LAYOUTS[layout].file("value") in each and re.search("[Rr]ow [23]", each) for each in told), told


@pytest.mark.parametrize("layout", [name for name in CSV if name != "mapped"])
def test_gb18030_where_utf_8_is_expected_is_named_with_its_row(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    layout_of = LAYOUTS[layout]
    layout_of.write(folder, "text", CHINESE)
    path = folder / layout_of.cells["text"][0]
    write_bytes(path, read_text(path).encode("gb18030"))
    named(folder, "FW-DATA-005", layout_of.file("text"), f"row {layout_of.row('text')}", "GB18030")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "meds"])
def test_utf_16_with_and_without_mark_is_named(tables: Tables, layout: str, encoding: str) -> None:
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    path = folder / where.cells["value"][0]
    write_bytes(path, read_text(path, "cp1252" if layout == "mapped" else "utf-8").encode(encoding))
    named(folder, "FW-DATA-005", where.file("value"), "UTF-16" if layout != "mapped" else "Labor.csv")


@pytest.mark.parametrize(("declared", "written"), [("gb18030", "utf-8"), ("utf-8", "gb18030")])
def test_a_mapped_table_of_another_encoding_than_declared_is_named(
    tables: Tables, declared: str, written: str
) -> None:  # fmt: skip
    folder = folder_of(tables, "mapped")
    mapping = folder / "mapping.toml"
    mapping.write_text(mapping.read_text(encoding="utf-8").replace("cp1252", declared), encoding="utf-8")
    for path in folder.glob("*.csv"):
        path.write_bytes(path.read_text(encoding="cp1252").encode(declared))
    path = folder / "Notizen.csv"
    text = path.read_text(encoding=declared).replace("Walks with help.", CHINESE)
    path.write_bytes(text.encode(written))
    named(folder, "FW-DATA-005", "Notizen.csv", "gb18030" if declared == "gb18030" else "row 2")


@pytest.mark.parametrize("what", ["person", "stay", "value"])
def test_fhir_in_gb18030_is_named_with_its_record(tables: Tables, what: str) -> None:
    folder = folder_of(tables, "fhir")
    file, _, row = LAYOUTS["fhir"].cells[what]
    lines = (folder / file).read_text(encoding="utf-8").split("\n")
    lines[row - 1] = lines[row - 1].replace("{", '{"display": "' + CHINESE + '", ', 1)
    (folder / file).write_bytes("\n".join(lines).encode("gb18030"))
    named(folder, "FW-DATA-005", file, "record", "GB18030")


@pytest.mark.parametrize(("declared", "written"), [("gb18030", "utf-8"), ("utf-8", "gb18030")])
def test_an_attachment_of_another_charset_than_declared_is_counted_by_row(
    tables: Tables, declared: str, written: str
) -> None:  # fmt: skip
    folder = folder_of(tables, "fhir")
    data = base64.b64encode(CHINESE.encode(written)).decode()
    attachment = {"contentType": f"text/plain; charset={declared}", "data": data}
    change_json(folder / "DocumentReference.000.ndjson", 2, "content", [{"attachment": attachment}])
    named(folder, "DocumentReference.000.ndjson, row 2: attachment")


def test_a_shard_whose_texts_are_no_utf_8_is_named_with_row_and_column(tables: Tables) -> None:
    folder = folder_of(tables, "meds")
    path = folder / "data" / "train" / "0.parquet"
    table = pq.read_table(path)
    cells = [None if cell is None else cell.encode("gb18030") for cell in table["text_value"].to_pylist()]
    cells[10] = CHINESE.encode("gb18030")
    wrong = pa.array(cells, pa.large_binary()).view(pa.large_string())
    pq.write_table(table.set_column(table.column_names.index("text_value"), "text_value", wrong), path)
    named(folder, "FW-DATA-005", "train/0.parquet", "row 12", "TEXT_VALUE")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "meds"])
def test_byte_order_mark_and_line_ends_of_windows_change_nothing(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    before, notes = texts(folder, layout), [item.unit for item in CORPORA[layout].documents(folder)]
    mark = b"" if layout == "mapped" else b"\xef\xbb\xbf"  # its encoding has none
    for path in (each for each in folder.rglob("*") if each.is_file() and each.suffix in (".csv", ".gz", ".ndjson")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        write_bytes(path, mark + content.replace(b"\n", b"\r\n"))
    assert (texts(folder, layout), [item.unit for item in CORPORA[layout].documents(folder)]) == (before, notes)


@pytest.mark.parametrize("layout", CSV)
def test_line_breaks_in_quotation_marks_are_part_of_the_cell(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    told = 'One line,; "quoted".\r\nAnd\nanother'
    LAYOUTS[layout].write(folder, "text", told)
    found = next(iter(CORPORA[layout].documents(folder))).texts["text"]
    assert found.removeprefix("Comments: ") == told
    path = folder / LAYOUTS[layout].cells["text"][0]
    text = read_text(path, "cp1252" if layout == "mapped" else "utf-8")
    write_bytes(path, text.replace('another"', "another", 1).encode())
    named(folder, "FW-DATA-005", LAYOUTS[layout].file("text"), f"Row {LAYOUTS[layout].row('text')} ", "quotation mark")


def names_in_capitals(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.suffix != ".toml":
            path.rename(path.with_name(path.name.upper()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_files_as_windows_writes_them(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    before = texts(folder, layout)
    names_in_capitals(folder)
    for name in ("desktop.ini", "Thumbs.db"):
        (folder / name).write_bytes(b"\xff\xfe\0")
    assert detect(folder) == (CORPORA[layout], folder)
    assert texts(folder, layout) == before


@pytest.mark.parametrize(("written", "read"), [(r".\\tables\\Labor.csv", True), (r"C:\\tables\\Labor.csv", False)])
def test_paths_of_windows_in_a_mapping(tables: Tables, written: str, read: bool) -> None:
    folder = folder_of(tables, "mapped")
    before = texts(folder, "mapped")
    (folder / "tables").mkdir()
    (folder / "Labor.csv").rename(folder / "tables" / "Labor.csv")
    mapping = folder / "mapping.toml"
    mapping.write_text(mapping.read_text(encoding="utf-8").replace('"Labor.csv"', f'"{written}"'), encoding="utf-8")
    if read:
        assert texts(folder, "mapped") == before
    else:
        named(folder, "FW-DATA-072", "measurements.laboratory.file", "below the data folder")


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["person", "stay", "start", "end", "value", "when", "whose", "text"])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "fhir"])
def test_a_missing_column_is_named_with_its_file(tables: Tables, layout: str, what: str) -> None:
    """Columns that a standard lets sites leave out are read as empty: their rows are counted, not lost."""
    folder = folder_of(tables, layout)
    file, column, _ = LAYOUTS[layout].cells[what]
    rename_column(folder / file, column, f"old_{column}")
    told = said(folder)
    stops = any(
        "FW-DATA-003" in each and LAYOUTS[layout].file(what) in each and column.upper() in each for each in told
    )
    counted = any(each.startswith(f"{LAYOUTS[layout].file(what)}, row ") for each in told)
    optional = {
        ("omop", "start"),
        ("omop", "end"),
        ("omop", "when"),
        ("eicu", "text"),
        ("meds", "text"),
        ("meds", "value"),
    }
    assert stops or (counted and (layout, what) in optional) or (layout, what) == ("meds", "text"), told


@pytest.mark.parametrize(
    ("what", "key", "words"),
    [
        ("stay", "subject", "without a patient"), ("start", "period", "period.start is not a time"),
        ("start", "id", "a resource without id"), ("when", "effectiveDateTime", "effective has no time"),
        ("person", "id", "a resource without id"), ("text", "subject", "without a patient"),
    ],
)  # fmt: skip
def test_a_resource_that_lacks_a_key_is_counted_by_row(tables: Tables, what: str, key: str, words: str) -> None:
    folder = folder_of(tables, "fhir")
    file, _, row = LAYOUTS["fhir"].cells[what]
    row = 1 if (what, key) == ("stay", "subject") else row  # stays of intensive care are those of their hospital stay
    change_json(folder / file, row, key, None)
    named(folder, f"{file}, row {row}: ", words)


# --- identifiers ------------------------------------------------------------------------------------------------------


def each_person(folder: Path, layout: str, spelled: Callable[[str], str], files: str = "") -> None:
    """Writes identifiers of persons, stays and admissions in another way; in ``files`` alone, if given."""
    keys = {"pat-nr", "fall-nr", "aufenthalt", "subject_id", "hadm_id", "icustay_id", "stay_id", "person_id",
            "patientunitstayid", "uniquepid", "visit_occurrence_id", "visit_detail_id"}  # fmt: skip

    def edit(header: list[str], rows: list[list[str]]) -> None:
        for place, name in enumerate(header):
            if name.lower() in keys:
                for row in rows:
                    row[place] = spelled(row[place]) if row[place] else ""

    for path in sorted(each for each in folder.rglob("*") if each.is_file() and files in each.name):
        if ".csv" in path.name.lower():
            change(path, edit)


@pytest.mark.parametrize("layout", [name for name in CSV if name != "eicu"])
def test_identifiers_as_floats_are_the_same_persons(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    before, notes = texts(folder, layout), [item.unit for item in CORPORA[layout].documents(folder)]
    each_person(folder, layout, lambda cell: f"{cell}.0")
    assert (texts(folder, layout), [item.unit for item in CORPORA[layout].documents(folder)]) == (before, notes)


def test_stays_of_eicu_as_floats_are_the_same(tables: Tables) -> None:
    folder = folder_of(tables, "eicu")
    before = texts(folder, "eicu")
    each_person(folder, "eicu", lambda cell: cell if "-" in cell else f"{cell}.0")
    assert texts(folder, "eicu") == before


def test_subjects_of_meds_as_floats_are_the_same(tables: Tables) -> None:
    folder = folder_of(tables, "meds")
    before = texts(folder, "meds")
    for path in folder.rglob("data/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, "subject_id", table["subject_id"].cast(pa.float64())), path)
    assert texts(folder, "meds") == before


def test_references_of_fhir_as_floats_are_the_same(tables: Tables) -> None:
    folder = folder_of(tables, "fhir")
    for path in folder.glob("*.ndjson"):
        path.write_text(path.read_text(encoding="utf-8").replace("p1000", "1000"), encoding="utf-8")
    before = texts(folder, "fhir")
    for path in folder.glob("[DO]*.ndjson"):
        path.write_text(re.sub(r"(Patient/1000\d)", r"\1.0", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert texts(folder, "fhir") == before
    assert [item.unit for item in CORPORA["fhir"].documents(folder)] == ["10001", "10003"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_leading_zeros_are_counted_by_row_and_column(tables: Tables, layout: str) -> None:
    """One row of the measurements writes its person with zeros that the table of persons has not."""
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    file, column, row = where.cells["whose"]
    if layout == "meds":
        path = folder / file
        table = pq.read_table(path)
        cells = [f"{'0' * (place == row - 2)}{cell}" for place, cell in enumerate(table["subject_id"].to_pylist())]
        pq.write_table(table.set_column(0, "subject_id", pa.array(cells)), path)
    elif layout == "fhir":
        for each in folder.glob("*.ndjson"):
            each.write_text(each.read_text(encoding="utf-8").replace("p1000", "1000"), encoding="utf-8")
        change_json(folder / file, row, column, "Patient/0010001")
    else:
        own = {"mapped": "211", "mimic-iii": "11", "eicu": "1001"}.get(layout, "10001")
        change_rows(folder / file, column, {row: f"00{own}"})
    told = said(folder)
    if layout == "eicu":  # the stay whose physiology is called otherwise has none
        assert any(each.startswith("patient.csv, row 3: PATIENTUNITSTAYID has other leading zeros") for each in told), (
            told
        )
    else:
        words = f"{where.file('whose')}, row {row}: {where.column('whose')} has other leading zeros"
        assert any(each.startswith(words) for each in told), told


@pytest.mark.parametrize(
    ("layout", "what"),
    [
        *((name, "stay") for name in LAYOUTS if name != "fhir"),
        *((name, "person") for name in CSV if name != "eicu"),  # which has one row for each stay
    ],
)
def test_a_key_that_stands_twice_is_named_by_row(tables: Tables, layout: str, what: str) -> None:
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    file, _, row = where.cells[what]
    repeat_row(folder / file, row)
    told = said(folder)
    again = len(pq.read_table(folder / file)) + 1 if layout == "meds" else len(read_text(folder / file).splitlines())
    if layout == "meds":
        words = f"{where.file(what)}, row {again}: ICU_ADMISSION of a subject twice"
    else:
        words = f"FW-DATA-008 The file {where.file(what)} lists a {where.column(what)} twice, again in row {again}"
    assert any(each.startswith(words) for each in told), told


@pytest.mark.parametrize("what", ["person", "stay", "value", "text"])
def test_a_resource_that_stands_twice_is_one(tables: Tables, what: str) -> None:
    folder = folder_of(tables, "fhir")
    file, _, row = LAYOUTS["fhir"].cells[what]
    before, notes = texts(folder, "fhir"), len(list(CORPORA["fhir"].documents(folder)))
    repeat_row(folder / file, row)
    assert (texts(folder, "fhir"), len(list(CORPORA["fhir"].documents(folder)))) == (before, notes)


# --- times and ages ---------------------------------------------------------------------------------------------------


def absurd() -> Iterator[tuple[str, str, Any]]:
    own = {
        "mapped": ["31.12.9999 08:00:00", "01.01.0001 08:00:00", "soon", "2130-99-99"],
        "eicu": ["soon", "1e999", "2 days", "1_0"],
        "meds": [moment("9999-12-31T08:00:00"), moment("1700-01-01T08:00:00")],
    }
    iso = ["9999-12-31 08:00:00", "0001-01-01 08:00:00", "31.12.2150 08:00", "soon", "2150-02-30 08:00:00"]
    for layout in LAYOUTS:
        for what in ("start", "end", "when"):
            for cell in own.get(layout, iso):
                yield layout, what, cell


@pytest.mark.parametrize(("layout", "what", "cell"), absurd())
def test_a_time_that_is_none_is_named_by_file_row_and_column(tables: Tables, layout: str, what: str, cell: Any) -> None:
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    where.write(folder, what, cell)
    told = said(folder)
    place = f"{where.file(what)}, row {where.row(what)}"
    if (layout, what) == ("meds", "end"):  # the stay that never ended
        assert any(each.startswith(place) and "TIME is not a time" in each for each in told), told
    else:
        assert any(place in each and where.column(what) in each for each in told), told
    assert not any(str(cell) in each for each in told)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stay_that_ends_before_it_begins_is_counted_by_row(tables: Tables, layout: str) -> None:
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    early: dict[str, Any] = {
        "mapped": "01.01.2129 08:00:00", "mimic-iii": "2119-01-01 08:00:00", "eicu": "-10",
        "fhir": "2149-01-01T08:00:00Z", "meds": moment("2149-01-01T08:00:00"),
    }  # fmt: skip
    where.write(folder, "end", early.get(layout, "2149-01-01 08:00:00"))
    row = where.row("start") if layout == "meds" else where.row("end")
    words = "outcome open" if layout == "meds" else "the stay ends before it begins"
    named(folder, f"{where.file('end')}, row {row}: ", words)


OVER_89: dict[str, list[Any]] = {
    "mapped": ["01.06.2030", "01.06.1830"],
    "mimic-iii": ["1820-03-01 00:00:00", "2025-06-01 00:00:00"],
    "mimic-iv": ["91", "97", "90.0"],
    "eicu": ["> 89", ">89", "95", "90.0"],
    "omop": ["1850", "2055"],
    "fhir": ["1850", "1850-03-01", "2055-01", "2055"],
    "meds": [moment("1850-01-01T00:00:00"), moment("2055-01-01T00:00:00")],
}


@pytest.mark.parametrize(("layout", "cell"), [(layout, cell) for layout, cells in OVER_89.items() for cell in cells])
def test_an_age_over_89_is_one_group_and_never_told(tables: Tables, layout: str, cell: Any) -> None:
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    where.write(folder, "birth", cell)
    corpus = CORPORA[layout]
    assert isinstance(corpus, StayCorpus)
    own = {"mapped": "21", "mimic-iii": "11", "eicu": "001-1", "fhir": "p10001"}.get(layout, "10001")
    assert {stay.age for stay in corpus.stays(folder) if stay.patient == own} & {90}
    found = [text for patient, text in texts(folder, layout) if patient == own]
    assert any(text.startswith("age over 89 . ") for text in found)
    year = re.search(r"\d{4}", str(cell))
    assert not any(word in " ".join(found) for word in ("age 9", year[0] if year else "95", "300"))


@pytest.mark.parametrize(
    ("layout", "cell"),
    [
        ("mimic-iv", "-5"), ("mimic-iv", "400"), ("eicu", "abc"), ("eicu", "> x9"), ("eicu", ">65"), ("omop", "20x0"),
        ("mimic-iii", "old"), ("mapped", "old"), ("fhir", "old"), ("omop", "1700"), ("mapped", "01.06.2131"),
        ("mimic-iii", "2130-01-01"), ("meds", None), ("meds", moment("1700-01-01T00:00:00")),
    ],
)  # fmt: skip
def test_an_age_that_is_not_possible_is_named_by_row(tables: Tables, layout: str, cell: Any) -> None:
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    where.write(folder, "birth", cell)
    told = said(folder)
    own = f"{where.file('birth')}, row {where.row('birth')}"
    assert any(own in each or "the age is not possible" in each for each in told), told


# --- what is known when -----------------------------------------------------------------------------------------------


LATE: dict[str, tuple[str, str, Any, tuple[Any, Any, Any]]] = {
    "mapped": ("Labor.csv", "Zeit", "30,0", ("02.01.2130 07:59:59", "02.01.2130 08:00:01", "02.03.2130 08:00:00")),
    "mimic-iii": (
        "LABEVENTS.csv", "CHARTTIME", "30.0", ("2120-03-02 07:59:59", "2120-03-02 08:00:01", "2120-05-01 08:00:00"),
    ),
    "mimic-iv": (
        "hosp/labevents.csv.gz", "storetime", "30.0",
        ("2150-03-02 09:59:59", "2150-03-02 10:00:01", "2150-05-01 10:00:00"),
    ),
    "eicu": ("infusiondrug.csv", "infusionoffset", "80", ("1439", "1441", "5000")),
    "omop": (
        "measurement.csv", "measurement_datetime", "200",
        ("2150-03-02 09:59:59", "2150-03-02 10:00:01", "2150-05-01 10:00:00"),
    ),
    "fhir": (
        "Observation.000.ndjson", "issued", 200,
        ("2150-03-02T14:59:59Z", "2150-03-02T10:00:01-05:00", "2150-05-01T10:00:00+08:00"),
    ),
    "meds": (
        "data/train/0.parquet", "time", 200.0,
        (moment("2150-03-02T09:59:59"), moment("2150-03-02T10:00:01"), moment("2150-05-01T10:00:00")),
    ),
}  # fmt: skip
"""Column by which a result is known, an extreme result, and a time before the prediction, just after it, and later."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_known_after_the_prediction_time_is_in_no_text(tables: Tables, layout: str) -> None:
    """Labels lie after the prediction time: whatever is stored then could tell them."""
    folder, where = folder_of(tables, layout), LAYOUTS[layout]
    file, column, value, times = LATE[layout]
    row = 3 if layout == "eicu" else where.row("value")
    where.write(folder, "value", value)
    found = []
    for time in times:
        if layout == "fhir":
            change_json(folder / file, row, column, time)
        elif layout == "meds":
            change_parquet(folder / file, lambda rows, time=time: rows[row - 2].__setitem__(column, time))
        else:
            change_rows(folder / file, column, {row: time})
        found.append(texts(folder, layout))
    before, after, long_after = found
    assert before != long_after
    assert after == long_after


OUTCOMES: dict[str, Callable[[Path], None]] = {
    "mapped": lambda folder: change_rows(folder / "Faelle.csv", "Entlassungsart", {2: "Pflegeheim"}),
    "mimic-iii": lambda folder: change_rows(folder / "ADMISSIONS.csv", "DISCHARGE_LOCATION", {2: "SNF"}),
    "mimic-iv": lambda folder: change_rows(folder / "hosp/patients.csv.gz", "dod", {2: "2150-03-20"}),
    "eicu": lambda folder: change_rows(folder / "patient.csv", "hospitaldischargelocation", {3: "Other"}),
    "omop": lambda folder: change_rows(folder / "visit_occurrence.csv", "discharged_to_source_value", {2: "snf"}),
    "fhir": lambda folder: change_json(
        folder / "Encounter.000.ndjson", 1, "hospitalization",
        {"dischargeDisposition": {"coding": [{"code": "snf"}]}},
    ),
    "meds": lambda folder: change_parquet(
        folder / "data/train/0.parquet", lambda rows: rows[11].__setitem__("code", "HOSPITAL_DISCHARGE//REHAB")
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_happens_at_discharge_changes_no_text_before_it(tables: Tables, layout: str) -> None:
    folder = folder_of(tables, layout)
    before = texts(folder, layout)
    OUTCOMES[layout](folder)
    assert texts(folder, layout) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_dropped_from_a_sound_folder_but_what_every_export_has(tables: Tables, layout: str) -> None:
    folder, drops = folder_of(tables, layout), Drops()
    assert not [each for each in check_folder(folder).problems if each.code != "FW-DATA-007"]
    list(CORPORA[layout].documents(folder, drops))
    assert set(drops.counts) <= drops.expected
    assert load_examples(folder, format=layout, task="mortality") is not None
