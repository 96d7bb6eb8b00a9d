"""Rows that cannot be used are counted by file, reason and row in every layout, and refused above a share."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.client.corpora import CORPORA
from fedward.client.corpora.fhir import Fhir
from fedward.client.data.drops import Drops
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from fedward.errors import DataError
from tests.codes import raises

pytestmark = pytest.mark.torch  # reading examples asks the tasks, which need it

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]
MIMIC4, OMOP, FHIR = (f"formats/ehr-same-patients/{name}" for name in ("mimic-iv", "omop", "fhir"))


def sub(path: Path, pattern: str, new: str, count: int = 0) -> None:
    """Replaces what a regular expression matches in a table, plain or packed."""
    packed = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()).decode() if packed else path.read_text(encoding="utf-8")
    changed, times = re.subn(pattern, new, text, count=count, flags=re.MULTILINE)
    assert times
    path.write_bytes(gzip.compress(changed.encode(), mtime=0) if packed else changed.encode())


def dropped(folder: Path) -> dict[tuple[str, str], int]:
    return dict(check_folder(folder).drops.counts)


def problems(folder: Path) -> list[str]:
    return [f"{problem.code} {problem.message}" for problem in check_folder(folder).problems]


# --- the limit --------------------------------------------------------------------------------------------------------


def test_the_limit_counts_what_good_tables_do_not_have() -> None:
    drops = Drops()
    drops.add("stays.csv", "the age is not possible", 2, row=7)
    drops.add("stays.csv", "still in hospital, outcome open", 90, expected=True)
    drops.use("stays.csv", 2)
    drops.check(0.5)
    with raises("FW-DATA-019", match=r"2 of 4 rows of stays.csv .* the share of 0.49 .*the age is .*first in row 7"):
        drops.check(0.49)


def test_files_of_a_set_of_texts_are_one_table() -> None:
    drops = Drops()
    drops.add("a.xml", "answer is empty")
    drops.use("b.xml", 9)
    drops.check(together=True)
    with raises("FW-DATA-019", match="a.xml"):
        drops.check()


def test_a_run_and_the_check_refuse_a_table_of_dates_without_time(tables: Tables) -> None:
    folder = tables("mimic3")
    sub(folder / "LABEVENTS.csv", r"(2120-03-01|2121-01-01) \d\d:\d\d:00", r"\1")
    assert any("FW-DATA-019 9 of 13 rows of LABEVENTS.csv" in each for each in problems(folder))
    with raises("FW-DATA-019", match="CHARTTIME has no time of day, first in row 2"):
        load_examples(folder, format="mimic-iii", task="mortality")
    assert load_examples(folder, format="mimic-iii", task="mortality", most_dropped=0.9)
    result = CliRunner().invoke(app, ["check", str(folder), "--most-dropped", "0.9"])
    assert (result.exit_code, "first in row" in result.stdout) == (0, True)


# --- identifiers ------------------------------------------------------------------------------------------------------


def test_other_leading_zeros_are_counted_and_half_a_table_is_refused(tables: Tables) -> None:
    folder = tables("mimic3")
    sub(folder / "LABEVENTS.csv", r"^1,11,", "1,0011,")
    assert dropped(folder)["LABEVENTS.csv", "SUBJECT_ID has other leading zeros than the table of the stays"] == 1
    sub(folder / "LABEVENTS.csv", r"^(\d+),11,", r"\1,011,")
    assert any("FW-DATA-019" in each and "leading zeros" in each for each in problems(folder))


def test_zeros_may_be_missing_in_the_other_tables(tables: Tables) -> None:
    folder = tables("mimic3")
    for name in ("PATIENTS", "ADMISSIONS", "ICUSTAYS"):
        sub(folder / f"{name}.csv", r"^(\d+),(\d\d),", r"\1,00\2,")
    words = "SUBJECT_ID has other leading zeros than the table of the stays"
    with raises("FW-DATA-016", match=r"LABEVENTS.csv .* match in 0 of"):
        load_examples(folder, format="mimic-iii", task="mortality")
    sub(folder / "LABEVENTS.csv", r"^10,12,", "10,0012,")
    assert dropped(folder)["LABEVENTS.csv", words] == 11


@pytest.mark.parametrize("column", ["subject_id", "hadm_id", "itemid"])
def test_identifiers_as_floats_are_the_same_persons(tables: Tables, column: str) -> None:
    folder = tables("mimic3")
    before = load_examples(folder, format="mimic-iii", task="mortality")
    for path in folder.glob("*.csv"):
        lines = path.read_text(encoding="utf-8").split("\n")
        header = lines[0].lower().split(",")
        if column in header and '"' not in "".join(lines):
            place = header.index(column)
            rows = [line.split(",") for line in lines[1:] if line]
            for row in rows:
                row[place] = f"{row[place]}.0" if row[place] else ""
            path.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    assert load_examples(folder, format="mimic-iii", task="mortality") == before


def test_a_row_of_nobody_is_counted(tables: Tables) -> None:
    folder = tables("mimic3")
    sub(folder / "LABEVENTS.csv", r"^1,11,", "1,,")
    assert dropped(folder)["LABEVENTS.csv", "SUBJECT_ID is empty"] == 1


@pytest.mark.parametrize(
    ("table", "pattern", "new", "words"),
    [
        ("ADMISSIONS", r"^2,11,112,", "2,11,111,", "HADM_ID twice, again in row 3"),
        ("ICUSTAYS", r"^2,11,111,201", "2,11,111,202", "ICUSTAY_ID twice, again in row 3"),
        ("PATIENTS", r"^2,12,", "2,11,", "SUBJECT_ID twice, again in row 3"),
        ("ICUSTAYS", r"^2,11,111,201", "2,11,111,", "row 3, column ICUSTAY_ID: not an identifier"),
        ("ICUSTAYS", r"^2,11,111,", "2,11,,", "HADM_ID that ADMISSIONS lacks for that patient, in row 3"),
    ],
)
def test_keys_that_contradict_each_other_are_named_by_row(
    tables: Tables, table: str, pattern: str, new: str, words: str
) -> None:
    folder = tables("mimic3")
    sub(folder / f"{table}.csv", pattern, new, 1)
    with pytest.raises(DataError, match=f"{table}.csv.*{words}"):
        load_examples(folder, format="mimic-iii", task="mortality")


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ['"5,5"', '"1,234.5"', "<5", "1_000", "inf", "5.5 mg", "=5.5"])
def test_values_that_are_no_numbers_are_named_by_row(tables: Tables, edit: Edit, cell: str) -> None:
    folder = tables("mimic3")
    edit(folder / "LABEVENTS.csv", "5.5,5.5,mmol", f"5.5,{cell},mmol")
    with raises("FW-DATA-004", match=r"LABEVENTS.csv, row 3, column VALUENUM"):
        load_examples(folder, format="mimic-iii", task="mortality")


@pytest.mark.parametrize("cell", ["", "NA", "NULL", "\\N", "NaT", "nan", "NaN", "None", "<NA>", "n/a", ".", '""', " "])
def test_empty_cells_of_every_tool_are_empty(tables: Tables, edit: Edit, cell: str) -> None:
    folder = tables("mimic3")
    edit(folder / "LABEVENTS.csv", "5.5,5.5,mmol", f"5.5,{cell},mmol")
    for path in ("ADMISSIONS.csv",):
        sub(folder / path, r"12:00:00,,(EMERGENCY|ELECTIVE)", rf"12:00:00,{cell or ' '},\1".replace("\\N", "\\\\N"))
    assert len(load_examples(folder, format="mimic-iii", task="mortality")) == 4


def test_other_units_are_converted_and_said(tables: Tables, edit: Edit) -> None:
    folder = tables("mimic3")
    edit(folder / "LABEVENTS.csv", "0.9,0.9,mg/dL", "80,80,umol/L")
    report = check_folder(folder)
    assert report.drops.remarks == {("LABEVENTS.csv", "unit of creatinine: umol/l turned into mg/dL"): 1}
    assert "unit of creatinine" in CliRunner().invoke(app, ["check", str(folder)]).stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "table", "pattern", "new", "words"),
    [
        ("mimic3", "LABEVENTS.csv", r"0\.9,0\.9,mg/dL", "80,80,mg/dL", "creatinine is outside"),
        ("eicu", "apacheapsvar.csv", r"^(1,1001,.*),1\.5,-1,", r"\1,150,-1,", "creatinine is outside"),
        (OMOP, "measurement.csv", r"^(.*3016723.*?),1\.[0-9]+,", r"\1,150,", "creatinine is outside"),
    ],
)  # fmt: skip
def test_values_outside_the_plausible_range_are_counted(
    tables: Tables, name: str, table: str, pattern: str, new: str, words: str
) -> None:
    folder = tables(name)
    sub(folder / table, pattern, new, 1)
    assert any(key == (table, reason) and words in reason for key in dropped(folder) for reason in [key[1]])


# --- outcomes and times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "new", "words"),
    [
        (r"STROKE,1,1", "STROKE,0,1", "a time of death within the stay of a survivor"),
        (r"2120-03-06 12:00:00,2120-03-06 12:00:00", "2120-03-06 12:00:00,2120-02-01 12:00:00", "before the stay"),
        (r"2120-03-06 12:00:00,2120-03-06 12:00:00", "2120-03-06 12:00:00,2120-05-01 12:00:00", "long after the stay"),
    ],
)
def test_deaths_that_contradict_each_other_are_left_out(tables: Tables, pattern: str, new: str, words: str) -> None:
    folder = tables("mimic3")
    sub(folder / "ADMISSIONS.csv", pattern, new, 1)
    report = check_folder(folder)
    [(key, count)] = [each for each in report.drops.counts.items() if "contradicts the outcome" in each[0][1]]
    assert (key[0], words in key[1], count, report.drops.first[key]) == ("ICUSTAYS.csv", True, 1, 4)
    assert report.tasks[0].records == 3


def test_a_destination_that_contradicts_the_outcome_is_said(tables: Tables) -> None:
    report = check_folder(tables("mimic3-several"))
    words = "destination and outcome contradict each other: left out of the task discharge"
    assert report.drops.remarks == {("ICUSTAYS.csv", words): 1}


@pytest.mark.parametrize(
    ("status", "offset", "words"),
    [("Expired", "2880", "died in the unit"), ("Alive", "-5", "ends before it begins"), ("Alive", "9999999", "longer")],
)
def test_stays_of_eicu_that_cannot_be(tables: Tables, status: str, offset: str, words: str) -> None:
    folder = tables("eicu")
    sub(folder / "patient.csv", "2880,Floor,Alive", f"{offset},Floor,{status}")
    report = check_folder(folder)
    key = next(key for key in report.drops.counts if words in key[1])
    assert (key[0], report.drops.first[key]) == ("patient.csv", 3)


@pytest.mark.parametrize(("told", "age"), [("> 89", "over 89"), (">89", "over 89"), ("93", "over 89"), ("66.0", "60s")])
def test_ages_of_eicu(tables: Tables, told: str, age: str) -> None:
    folder = tables("eicu")
    sub(folder / "patient.csv", ",66,", f",{told},")
    text = next(each.text for each in load_examples(folder, format="eicu", task="mortality") if "sepsis" in each.text)
    assert f"age {age}" in text


def test_an_age_that_is_no_number_is_named_by_row(tables: Tables) -> None:
    folder = tables("eicu")
    sub(folder / "patient.csv", r"Male,50,", "Male,fifty,")
    with raises("FW-DATA-004", match="patient.csv, row 5, column AGE"):
        load_examples(folder, format="eicu", task="mortality")


def test_births_that_hide_an_age_over_89_are_known_in_every_layout(tables: Tables) -> None:
    folder = tables(OMOP)
    sub(folder / "person.csv", r"(10001),(\d+),\d{4},", r"\1,\2,1850,")
    stays = CORPORA["omop"].items(folder)
    assert max(item.stay.age or 0 for item in stays if item.stay) == 90


def test_reversed_and_absurd_times(tables: Tables) -> None:
    folder = tables("mimic3")
    sub(folder / "ICUSTAYS.csv", "2120-03-01 08:00:00,2120-03-05", "2120-03-05 08:00:00,2120-03-01")
    assert dropped(folder)["ICUSTAYS.csv", "the stay ends before it begins"] == 1
    sub(folder / "ICUSTAYS.csv", "2120-08-01 08:00:00", "9999-12-31 08:00:00")
    assert any("ICUSTAYS.csv, row 2, column INTIME: not a time of 1750" in each for each in problems(folder))


@pytest.mark.parametrize("end", ["9999-12-31", "9999-12-31T00:00:00Z", "0001-01-01", "31.12.2150"])
def test_absurd_ends_of_encounters_are_no_ends(tables: Tables, end: str) -> None:
    folder, drops = tables(FHIR), Drops()
    path = folder / "Encounter.000.ndjson"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    for record in records:
        record["period"]["end"] = end
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    assert Fhir().stays(folder, (), drops) == []
    assert sum(drops.counts.values())


def test_a_day_of_a_death_at_the_end_of_time_is_no_crash(tables: Tables) -> None:
    folder = tables(OMOP)
    sub(folder / "death.csv", r"\d{4}-\d\d-\d\d", "9999-12-31")
    assert any("death.csv, row 2, column DEATH_DATE" in each for each in problems(folder))


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [";", "|"])
def test_another_separator_is_named(tables: Tables, mark: str) -> None:
    folder = tables("eicu")
    for path in folder.glob("*.csv"):
        sub(path, ",", mark)
    assert any("read as one column: it has another separator" in each for each in problems(folder))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_with_and_without_mark_is_named(tables: Tables, encoding: str) -> None:
    folder = tables("mimic3")
    path = folder / "LABEVENTS.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert any(
        "LABEVENTS.csv is not encoded as UTF-8: row 1; it looks like UTF-16" in each for each in problems(folder)
    )


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(tables: Tables) -> None:
    folder = tables("mimic3")
    before = load_examples(folder, format="mimic-iii", task="mortality")
    for path in folder.glob("*.csv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_examples(folder, format="mimic-iii", task="mortality") == before


@pytest.mark.parametrize("name", ["mimic3/LABEVENTS.csv", "eicu/apacheapsvar.csv", f"{OMOP}/measurement.csv"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: gzip.compress(content, mtime=0)[:-20], "ends early: it was cut off"),
        (lambda content: b"", "is empty"),
        (lambda content: content + b"\0\0\0\n", "cells, the header|is not CSV"),
    ],
)
def test_damaged_files_are_named_in_every_layout(
    tables: Tables, name: str, damage: Callable[[bytes], bytes], words: str
) -> None:
    top, _, file = name.rpartition("/")
    path = tables(top) / file
    path.write_bytes(damage(path.read_bytes()))
    assert any(file in each and re.search(words, each) for each in problems(path.parent)), problems(path.parent)


def test_a_gz_that_is_none_and_a_plain_name_of_a_gz_are_read(tables: Tables) -> None:
    folder = tables("mimic3")
    before = load_examples(folder, format="mimic-iii", task="mortality")
    (folder / "LABEVENTS.csv").rename(folder / "LABEVENTS.csv.gz")
    path = folder / "ADMISSIONS.csv"
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    assert load_examples(folder, format="mimic-iii", task="mortality") == before


@pytest.mark.parametrize(("column", "value"), [("ANCHOR_YEAR", "0"), ("ANCHOR_YEAR", "99999"), ("ANCHOR_AGE", "-5")])
def test_impossible_anchors_of_ages_are_named_by_row(tables: Tables, column: str, value: str) -> None:
    folder = tables(MIMIC4)
    path = folder / "hosp" / "patients.csv.gz"
    header, *rows = gzip.decompress(path.read_bytes()).decode().split("\n")
    place = header.upper().split(",").index(column)
    cells = rows[1].split(",")
    rows[1] = ",".join([*cells[:place], value, *cells[place + 1 :]])
    path.write_bytes(gzip.compress("\n".join([header, *rows]).encode(), mtime=0))
    assert any(f"patients.csv.gz, row 3, column {column}" in each for each in problems(folder))


def test_images_are_found_under_paths_of_windows(tables: Tables) -> None:
    folder = tables("formats/slake")
    sub(folder / "train.json", "xmlab1/source.png", r".\\\\xmlab1\\\\source.png")
    assert json.loads((folder / "train.json").read_text(encoding="utf-8"))[0]["img_name"] == ".\\xmlab1\\source.png"
    assert next(iter(CORPORA["slake"].items(folder))).images == (folder / "imgs" / "xmlab1" / "source.png",)
