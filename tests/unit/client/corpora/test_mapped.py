"""Tables of a hospital through a mapping file: what other layouts give, declared formats, and bad mappings."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.client.corpora import corpus_named, detect
from fedward.client.corpora.mapped_cells import Cells
from fedward.client.corpora.mapping import FormatSection, SexesSection, load_mapping
from fedward.client.data import Example
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, Event, Stay, prediction_hours
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from fedward.client.mapping_draft import draft
from fedward.config import to_toml
from tests.codes import raises

Tables = Callable[[str], Path]
TASKS = ("mortality", "los3", "los-days", "readmission", "discharge", "phenotypes")
ONE_TABLE = """
[admissions]
file = "stays.tsv"
person = "id"
admission = "case"
start = "from"
end = "to"
age = "age"
sex = "sex"
died = "dead"
unit = "ward"

[wide.vitals]
file = "vitals.csv"
admission = "case"
time = "at"
[wide.vitals.columns]
HR = "heart rate"
TEMP = "temperature"
[wide.vitals.units]
temperature = "[degF]"
"""


def examples(folder: Path, task: str = "mortality") -> list[Example]:
    return load_examples(folder, format="mapped", task=task)


def change(folder: Path, old: str, new: str, file: str = "mapping.toml", encoding: str = "utf-8") -> None:
    text = (folder / file).read_bytes().decode(encoding)
    assert old in text
    (folder / file).write_bytes(text.replace(old, new).encode(encoding))


def known(folder: Path, drops: Drops | None = None) -> Mapping[str, list[Event]]:
    corpus = corpus_named("mapped")
    stays: list[Stay] = corpus.stays(folder)  # type: ignore[attr-defined]
    chosen = [Chosen(stay, prediction_hours(stay.outcome)) for stay in stays]
    found: Mapping[str, list[Event]] = corpus.events(folder, chosen, drops)  # type: ignore[attr-defined]
    return found


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A hospital with one table of stays, and one column a vital sign."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mapping.toml").write_text(ONE_TABLE, encoding="utf-8")
    rows = ["id\tcase\tfrom\tto\tage\tsex\tdead\tward"]
    rows += ["a\t1\t2024-03-01 08:00\t2024-03-05 08:00\t71\tF\t0\tMICU", "b\t2\t2024-03-01 08:00\t2024-03-02 08:00\t"]
    rows[-1] += ">89\tM\t1\tMICU"
    (folder / "stays.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    vitals = [
        "case,at,HR,TEMP",
        "1,2024-03-01 09:00,120,102.2",
        "2,2024-03-01 09:00,,98.6",
        "9,2024-03-01 09:00,50,98.6",
    ]
    (folder / "vitals.csv").write_text("\n".join(vitals) + "\n", encoding="utf-8")
    return folder


@pytest.mark.torch
@pytest.mark.parametrize("task", TASKS)
def test_the_same_patients_give_the_same_examples_as_in_mimic_iii(tables: Tables, task: str) -> None:
    mimic = load_examples(tables("mimic3-several"), format="mimic-iii", task=task)
    assert examples(tables("formats/mapped"), task) == mimic


@pytest.mark.torch
@pytest.mark.parametrize("form", ["parquet", "gz", "utf-8", "upper"])
def test_however_the_tables_are_packed(tables: Tables, form: str) -> None:
    folder = tables("formats/mapped")
    before = examples(folder)
    for path in sorted(folder.glob("*.csv")):
        text = path.read_bytes().decode("cp1252")
        if form == "gz":
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        elif form == "utf-8":
            path.write_text(text, encoding="utf-8-sig")
        elif form == "upper":
            path.rename(folder / path.name.upper())
        else:
            path.write_text(text, encoding="utf-8")
            options = arrow_csv.ParseOptions(delimiter=";", newlines_in_values=True)
            pq.write_table(arrow_csv.read_csv(path, parse_options=options), folder / f"{path.stem}.parquet")
        if form in ("gz", "parquet"):
            path.unlink()
            change(folder, path.name, f"{path.name}.gz" if form == "gz" else f"{path.stem}.parquet")
    if form == "utf-8":
        change(folder, "cp1252", "utf-8")
    assert examples(folder) == before


@pytest.mark.torch
def test_one_table_of_stays_and_one_column_a_measurement(own: Path) -> None:
    assert detect(own) == (corpus_named("mapped"), own)
    assert {example.unit: (example.label, example.text) for example in examples(own)} == {
        "a": (0, "age 70s . female . micu . heart rate high . temperature high"),
        "b": (1, "age over 89 . male . micu . temperature normal"),
    }


def test_values_are_in_the_units_of_the_threshold_table(own: Path) -> None:
    values = {(event.stay, event.code): event.value for stay in known(own).values() for event in stay}
    assert values["1", "temperature"] == pytest.approx(39.0)
    assert values["1", "heart rate"] == 120.0
    assert values["2", "temperature"] == pytest.approx(37.0)
    assert ("2", "heart rate") not in values


def test_a_unit_that_is_none_of_the_measurement_is_counted(tables: Tables) -> None:
    folder, drops = tables("formats/mapped"), Drops()
    change(folder, "211;LAKT;1,5;mmol/L", "211;LAKT;1,5;furlong", "Labor.csv", "cp1252")
    before = {event.code for stay in known(folder, drops).values() for event in stay}
    assert "lactate" not in before
    assert drops.counts["Labor.csv", "the unit of lactate is not known: furlong"] == 1
    assert drops.first["Labor.csv", "the unit of lactate is not known: furlong"] == 2


def test_codes_without_a_name_are_no_measurements_and_none_at_all_is_refused(tables: Tables) -> None:
    folder = tables("formats/mapped")
    for code in ("KREA", "LAKT", "K", "THRO"):
        change(folder, f"\n{code} = ", f"\n9{code} = ")
    with raises("FW-DATA-015", match="Labor.csv"):
        known(folder)


def test_stays_of_no_admission_are_refused(tables: Tables) -> None:
    folder = tables("formats/mapped")
    path = folder / "Intensiv.csv"
    header, *rows = path.read_text(encoding="cp1252").splitlines()
    cells = [row.split(";") for row in rows]
    path.write_text("\n".join([header, *(f"{a};00{b};{';'.join(rest)}" for a, b, *rest in cells)]), encoding="cp1252")
    with raises("FW-DATA-016", match=r"Intensiv.csv.*Faelle.csv"):
        corpus_named("mapped").stays(folder)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "code", "match"),
    [
        ('birth = "Geb-Datum"', 'brith = "Geb-Datum"', "FW-DATA-072", "brith"),
        ('KREA = "creatinine"', 'KREA = "creatinin"', "FW-DATA-072", "did you mean 'creatinine'"),
        ('separator = ";"', 'separator = "#"', "FW-DATA-072", "separator"),
        ('encoding = "cp1252"', 'encoding = "klingon"', "FW-DATA-072", "no text encoding"),
        ('"%d.%m.%Y"]', '"%d.%m"]', "FW-DATA-072", "day, month and year"),
        ('"%d.%m.%Y"]', '"%d.%Q"]', "FW-DATA-072", "no format of a time"),
        ('file = "Labor.csv"', 'file = "../Labor.csv"', "FW-DATA-072", "below the data folder"),
        ('file = "Labor.csv"', 'file = "C:\\\\Labor.csv"', "FW-DATA-072", "below the data folder"),
        ('Pflegeheim = "facility"', 'Pflegeheim = "nursing"', "FW-DATA-072", "Pflegeheim"),
        ('Nursing = "nursing"', 'Nursing = "?"', "FW-DATA-073", r"notes\.ward\.categories\.Nursing"),
        ('sex = "Geschlecht"', 'sex = "?"', "FW-DATA-073", r"persons\.sex"),
        ("[persons]", "persons]", "FW-DATA-072", "not valid TOML"),
        ('admission = "Fall-Nr"\ncode', "code", "FW-DATA-072", "person"),
    ],
)
def test_a_mapping_that_does_not_hold_names_its_key(tables: Tables, old: str, new: str, code: str, match: str) -> None:
    folder = tables("formats/mapped")
    change(folder, old, new)
    with raises(code, match=match):
        load_mapping(folder / "mapping.toml")
    assert [problem.code for problem in check_folder(folder).stops] == [code]


def test_an_unknown_key_names_the_nearest(tables: Tables) -> None:
    folder = tables("formats/mapped")
    change(folder, 'birth = "Geb-Datum"', 'brith = "Geb-Datum"')
    with raises("FW-DATA-072") as caught:
        load_mapping(folder / "mapping.toml")
    assert caught.value.fix == "Did you mean 'birth'?"


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "match"),
    [
        (
            "Faelle.csv",
            "01.01.2130 07:00:00",
            "2130-01-01 07:00:00",
            "FW-DATA-004",
            r"Faelle.csv, row 2, column AUFNAHME",
        ),
        ("Faelle.csv", ";ja", ";vielleicht", "FW-DATA-004", r"column TOT: not 0 or 1"),
        ("Patienten.csv", "22;M", "21;M", "FW-DATA-008", "Patienten.csv"),
        ("Patienten.csv", "Geb-Datum", "Geburt", "FW-DATA-003", "GEB-DATUM"),
        ("Patienten.csv", ";", ",", "FW-DATA-003", "PAT-NR"),
        ("Faelle.csv", ";21;", ";;", "FW-DATA-004", "PAT-NR: not an identifier"),
    ],
)
def test_cells_that_are_not_as_declared_are_named(
    tables: Tables, file: str, old: str, new: str, code: str, match: str
) -> None:
    folder = tables("formats/mapped")
    change(folder, old, new, file, "cp1252")
    with raises(code, match=match):
        corpus_named("mapped").stays(folder)  # type: ignore[attr-defined]


def test_the_declared_encoding_is_checked_in_both_directions(tables: Tables) -> None:
    folder = tables("formats/mapped")
    text = (folder / "Labor.csv").read_bytes().decode("cp1252")
    (folder / "Labor.csv").write_text(text, encoding="utf-8")
    with raises("FW-DATA-005", match="is UTF-8, not cp1252"):
        known(folder)
    (folder / "Labor.csv").write_text(text.replace("\N{MICRO SIGN}", "\u5fae"), encoding="gb18030")
    change(folder, 'encoding = "cp1252"', 'encoding = "shift_jis"')
    (folder / "Labor.csv").write_bytes(b"\xff\xff" + (folder / "Labor.csv").read_bytes())
    with raises("FW-DATA-005", match="not encoded as shift_jis"):
        known(folder)


def test_a_file_that_is_not_there_names_the_nearest(tables: Tables) -> None:
    folder = tables("formats/mapped")
    change(folder, "Labor.csv", "Labore.csv")
    with raises("FW-DATA-002", match="Labore.csv") as caught:
        known(folder)
    assert "Labor.csv" in caught.value.fix


def test_a_mapping_may_lie_elsewhere(tables: Tables, tmp_path: Path) -> None:
    folder = tables("formats/mapped")
    before = {stay.stay for stay in corpus_named("mapped").stays(folder)}  # type: ignore[attr-defined]
    shutil.move(folder / "mapping.toml", tmp_path / "ours.toml")
    assert corpus_named("mapped").missing(folder) == ["mapping.toml"]
    corpus = corpus_named("mapped", mapping=tmp_path / "ours.toml")
    assert corpus.missing(folder) == []
    assert {stay.stay for stay in corpus.stays(folder)} == before  # type: ignore[attr-defined]
    assert check_folder(folder, mapping=tmp_path / "ours.toml").format == "mapped"


@pytest.mark.parametrize(
    ("decimal", "cell", "number"),
    [
        (",", "1,5", "1.5"),
        (",", "1.234,5", "1234.5"),
        (",", "1.234", "1234"),
        (",", "1.5", "?"),
        (",", "<0,5", "0.49999999999999994"),
        (",", "> 7", "7"),
        (",", "-3", "-3"),
        (".", "1,234", "?"),
        (".", "1.5", "1.5"),
        (".", "\N{LESS-THAN OR EQUAL TO}2", "1.9999999999999998"),
        (".", "positive", "?"),
        (".", "1e3", "1e3"),
        (".", "<", "?"),
        (".", "<.", "?"),
    ],
)
def test_numbers(decimal: str, cell: str, number: str) -> None:
    assert Cells(FormatSection(decimal=decimal), SexesSection()).number(cell) == number  # type: ignore[arg-type]


def test_times_flags_ages_and_sexes() -> None:
    form = FormatSection(times=["%d.%m.%Y %H:%M", "%d.%m.%Y", "%d.%m.%Y %H:%M %z"], true=["x"], false=["", "-"])
    cells = Cells(form, SexesSection(male=["M"], female=["W"]))
    assert cells.time("03.04.2024 07:05") == "2024-04-03T07:05:00"
    assert cells.time("03.04.2024") == "2024-04-03", "ten characters: the time of day is unknown"
    assert cells.time("03.04.2024 07:05 +0200") == "2024-04-03T05:05:00"
    assert cells.time("2024-04-03") == "?"
    assert [cells.flag(cell) for cell in ("x", "-", "ja")] == ["1", "0", "?"]
    assert [cells.sex(cell) for cell in ("m", " W ", "d")] == ["male", "female", "?"]
    assert [Cells.age(cell) for cell in ("67.0", "> 89", "90+", "old")] == [67, 90, 90, None]


def test_results_of_admissions_that_are_not_exported_are_skipped_and_those_of_none_counted(tables: Tables) -> None:
    folder, drops = tables("formats/mapped"), Drops()
    with (folder / "Labor.csv").open("a", encoding="cp1252") as file:
        file.writelines("999;KREA;1,0;mg/dl;01.01.2130 09:00:00\r\n" for _ in range(100))
    known(folder, drops)
    drops.check()
    assert drops.counts["Labor.csv", "FALL-NR is empty"] == 1


def test_what_was_turned_into_another_unit_is_said(tables: Tables) -> None:
    drops = Drops()
    known(tables("formats/mapped"), drops)
    assert drops.remarks["Labor.csv", "unit of creatinine: umol/l turned into mg/dL"] > 1


def test_sexes_without_a_word_are_said(tables: Tables) -> None:
    folder, drops = tables("formats/mapped"), Drops()
    change(folder, "21;W", "21;D", "Patienten.csv", "cp1252")
    corpus_named("mapped").stays(folder, (), drops)  # type: ignore[attr-defined]
    assert drops.remarks["Faelle.csv", "the sex is no word of [sexes]"] == 3


@pytest.mark.torch
def test_the_codes_of_a_hospitals_own_laboratory(tables: Tables) -> None:
    """Tables of MIMIC-III whose item numbers are the hospital's own: refused as they are, read through a mapping."""
    folder = tables("mimic3-several")
    wanted = load_examples(folder, format="mimic-iii", task="mortality")
    for item in ("50912", "50813", "50971", "51265"):
        text = (folder / "LABEVENTS.csv").read_text(encoding="utf-8")
        (folder / "LABEVENTS.csv").write_text(text.replace(f",{item},", f",9{item},"), encoding="utf-8")
    with raises("FW-DATA-015") as caught:
        load_examples(folder, format="mimic-iii", task="mortality")
    assert "fedward data map" in caught.value.fix
    document = draft(folder).document
    codes = {"950912": "creatinine", "950813": "lactate", "950971": "potassium", "951265": "platelets"}
    document["measurements"]["labevents"]["codes"] = codes
    (folder / "mapping.toml").write_text(to_toml(document), encoding="utf-8")
    found = examples(folder)
    assert [(each.unit, each.label) for each in found] == [(each.unit, each.label) for each in wanted]
    assert [each.text.count("lactate") for each in found] == [each.text.count("lactate") for each in wanted]


@given(st.binary(max_size=400))
def test_a_mapping_of_random_bytes_is_refused_and_nothing_else(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mapping.toml"
        path.write_bytes(content)
        with raises("FW-DATA-072", "FW-DATA-073"):
            load_mapping(path)
