"""First drafts of mapping files: what headers and cells tell, what is asked, and that no cell goes anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.client import mapping_draft
from fedward.client.corpora.mapping import load_mapping
from fedward.client.data.buckets import measurements
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from fedward.client.mapping_draft import Sheet, draft
from fedward.client.table_words import MEASUREMENTS, ROLES, plain
from tests.codes import raises

Tables = Callable[[str], Path]


@pytest.mark.torch
def test_a_draft_of_german_tables_reads_the_same_patients(tables: Tables, tmp_path: Path) -> None:
    folder = tables("formats/mapped")
    mapping = tmp_path / "draft.toml"
    (folder / "mapping.toml").unlink()
    made = draft(folder)
    mapping.write_text(made.text(), encoding="utf-8")
    assert (made.open, made.unused) == ([], [])
    read = load_mapping(mapping)
    assert (read.format.encoding, read.format.separator, read.format.decimal) == ("cp1252", ";", ",")
    assert read.format.times == ["%d.%m.%Y %H:%M:%S", "%d.%m.%Y"]
    assert (read.format.true, read.format.false) == (["ja"], [""])
    assert read.measurements["labor"].codes == {"K": "potassium", "KREA": "creatinine", "LAKT": "lactate"}
    mimic = load_examples(tables("mimic3-several"), format="mimic-iii", task="readmission")
    found = load_examples(folder, format="mapped", task="readmission", mapping=mapping)
    assert [(each.unit, each.label) for each in found] == [(each.unit, each.label) for each in mimic]
    assert "creatinine extreme" in found[0].text


def test_known_layouts_give_drafts_too_and_local_codes_stay_open(tables: Tables) -> None:
    made = draft(tables("mimic3"))
    assert made.open == ["measurements.labevents.codes"]
    assert made.document["sexes"] == {"male": ["M"], "female": ["F"]}
    assert 'codes = "?"  # codes as the table writes them' in made.text()


def test_an_open_draft_is_refused_until_it_is_complete(tables: Tables) -> None:
    folder = tables("mimic3")
    path = folder / "mapping.toml"
    path.write_text(draft(folder).text(), encoding="utf-8")
    (problem,) = check_folder(folder).stops
    assert (problem.code, "measurements.labevents.codes" in problem.message) == ("FW-DATA-073", True)
    path.write_text(
        path.read_text(encoding="utf-8").replace('codes = "?"', 'codes = {50813 = "lactate"}'), encoding="utf-8"
    )
    assert check_folder(folder).format == "mapped"


def test_a_person_is_asked_for_what_is_open(tables: Tables) -> None:
    made, asked = draft(tables("mimic3")), []

    def answer(key: str, about: str) -> str:
        asked.append((key, about))
        return '50813 = lactate, "50912" = "creatinine", nonsense'

    made.ask(answer)
    assert [key for key, _ in asked] == ["measurements.labevents.codes"]
    assert "KREA" in asked[0][1]
    assert made.document["measurements"]["labevents"]["codes"] == {"50813": "lactate", "50912": "creatinine"}
    again = draft(tables("eicu"))
    again.ask(lambda key, about: "")
    assert again.open, "an empty answer leaves a key open"


def test_no_cell_is_in_a_draft_but_public_words(tmp_path: Path) -> None:
    rows = ["patient_id,case,admittime,dischtime,gender,died,discharge_location"]
    rows += [f"P{i},C{i},2024-01-0{i} 10:00,2024-02-0{i} 10:00,{'FM'[i % 2]},{i % 2},SECRET{i}" for i in range(1, 9)]
    (tmp_path / "stays.csv").write_text("\n".join(rows), encoding="utf-8")
    notes = ["patient_id,time,text,category"] + [f"P{i},2024-01-0{i} 11:00,Mrs. SECRET{i},SECRET" for i in range(1, 9)]
    (tmp_path / "notes.csv").write_text("\n".join(notes), encoding="utf-8")
    lab = ["patient_id,time,test,value"] + [f"P{i},2024-01-0{i} 11:00,SECRETTEST,{i}.5" for i in range(1, 9)]
    (tmp_path / "lab.csv").write_text("\n".join(lab), encoding="utf-8")
    said = CliRunner().invoke(app, ["map", str(tmp_path), "--json"]).output
    text = draft(tmp_path).text()
    for cell in ("SECRET", "P1", "C1", "2024", "1.5"):
        assert cell not in said, cell
        assert cell not in text, cell
    found = json.loads(said)
    assert found["open"] == [
        "admissions.destinations",
        "measurements.lab.codes",
        "measurements.lab.units",
        "notes.notes.categories",
    ]


def test_chinese_tables_in_gb18030_and_parquet(tmp_path: Path) -> None:
    rows = [
        "患者ID,住院号,性别,出生日期,入院时间,出院时间,死亡",
        "1,11,男,1960-01-02,2024-03-01 08:00,2024-03-09 08:00,否",
    ]
    rows += ["2,12,女,1961-01-02,2024-03-01 08:00,2024-03-09 08:00,是"]
    (tmp_path / "住院.csv").write_text("\n".join(rows), encoding="gb18030")
    lab = {"患者ID": [1, 2], "检验项目": ["肌酐", "乳酸"], "结果": [1.5, 2.5], "单位": ["mg/dL", "mmol/L"]}
    times = pa.array(["2024-03-01 09:00", "2024-03-01 09:00"])
    pq.write_table(pa.table({**lab, "检验时间": times}), tmp_path / "检验.parquet")
    made = draft(tmp_path)
    assert made.open == []
    assert made.document["format"]["encoding"] == "gb18030"
    assert made.document["format"]["true"] == ["是"]
    assert made.document["sexes"] == {"male": ["男"], "female": ["女"]}
    (tmp_path / "mapping.toml").write_text(made.text(), encoding="utf-8")
    report = check_folder(tmp_path)
    assert (report.format, report.units) == ("mapped", 2)


@pytest.mark.parametrize(
    ("cells", "times"),
    [
        (("03/04/2024 10:00", "05/06/2024 11:00"), ["?"]),
        (("03/04/2024 10:00", "25/06/2024 11:00"), ["%d/%m/%Y %H:%M"]),
        (("03/04/2024", "06/25/2024"), ["%m/%d/%Y"]),
        (("20240304", "20241231"), ["%Y%m%d"]),
        (("soon", "later"), ["?"]),
    ],
)
def test_formats_of_times_and_the_ambiguous_ones(cells: tuple[str, ...], times: list[str]) -> None:
    assert mapping_draft._times(cells) == times


def test_sexes_that_are_numbers_are_asked(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("patient_id,sex,dob\n1,1,1960-01-01\n2,2,1961-01-01\n", encoding="utf-8")
    made = draft(tmp_path)
    assert {"sexes.male", "sexes.female", "admissions.file", "admissions.died"} <= set(made.open)


def test_tables_of_different_formats_have_one_each(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("pat_id;case;start;end;tot\n1;2;01.02.2024;03.02.2024;ja\n", encoding="utf-8")
    lab = "case\ttime\tloinc\tresult\n2\t2024-02-01 10:00\t2160-0\t1.5\n"
    (tmp_path / "lab.tsv").write_text(lab, encoding="utf-8")
    made = draft(tmp_path).document
    assert made["admissions"]["format"]["separator"] == ";"
    assert made["measurements"]["lab"]["format"]["separator"] == "\t"
    assert made["measurements"]["lab"]["loinc"] == "loinc"
    assert made["measurements"]["lab"]["format"]["times"] == ["%d.%m.%Y", "%Y-%m-%d %H:%M"]


def test_one_column_a_measurement(tmp_path: Path) -> None:
    (tmp_path / "vitals.csv").write_text("patient_id,time,HR,Temp\n1,2024-01-01 10:00,80,37.5\n", encoding="utf-8")
    made = draft(tmp_path)
    assert made.document["wide"]["vitals"]["columns"] == {"HR": "heart rate", "Temp": "temperature"}
    assert "wide.vitals.units" in made.open


def test_folders_without_tables_are_refused(tmp_path: Path) -> None:
    with raises("FW-DATA-011"):
        draft(tmp_path / "nowhere")
    with raises("FW-DATA-001"):
        draft(tmp_path)
    (tmp_path / "x.txt").write_text("one column\n", encoding="utf-8")
    (tmp_path / "y.parquet").write_bytes(b"PAR1 is not enough")
    with raises("FW-DATA-001"):
        draft(tmp_path)


def test_the_command_writes_a_file_and_replaces_none(tables: Tables, tmp_path: Path) -> None:
    out = tmp_path / "mapping.toml"
    run = CliRunner().invoke(app, ["map", str(tables("mimic3")), "--out", str(out)])
    assert "1 keys open: measurements.labevents.codes" in run.output
    assert out.read_text(encoding="utf-8").startswith("[format]")
    assert CliRunner().invoke(app, ["map", str(tmp_path / "mimic3"), "--out", str(out)]).exit_code != 0
    shown = CliRunner().invoke(app, ["map", str(tmp_path / "mimic3")]).output
    assert shown == out.read_text(encoding="utf-8")


def test_words_are_of_measurements_and_keys_that_there_are() -> None:
    assert set(MEASUREMENTS) <= set(measurements())
    words = [word for known in MEASUREMENTS.values() for word in known]
    assert len(words) == len(set(words))
    assert all(word == plain(word) for known in (*ROLES.values(), *MEASUREMENTS.values()) for word in known)
    assert Sheet("a.csv", ("Pat-Nr", "Größe"), []).roles == {"person": "Pat-Nr"}
