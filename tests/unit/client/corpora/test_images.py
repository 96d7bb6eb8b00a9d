"""Sets of images with words: MedPix 2.0, VQA-RAD, SLAKE, PathVQA and LLaVA-Med."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedward.client.corpora import corpus_named
from fedward.client.corpora.corpus import Turn
from fedward.client.data.documents import files as corpus_files
from fedward.client.data.drops import Drops
from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_a_case_of_medpix_and_its_images_are_one_patient(tables: Tables) -> None:
    folder = tables("formats/medpix2")
    items, reasons = read(folder, "medpix2")
    case, image = items
    assert (case.unit, image.unit) == ("MPX0001", "MPX0001")
    assert case.texts["title"] == "Example"
    assert "N/A" not in case.texts["text"]
    assert case.texts["text"].startswith("History: 50-year-old\nFindings: Opacity.")
    assert [path.name for path in case.images] == ["MPX0001_synpic00001.png", "MPX0001_synpic00002.png"]
    assert image.texts == {"caption": "An opacity."}
    assert image.images == (folder / "images" / "MPX0001_synpic00001.png",)
    assert image.labels == {
        "Type": "CT",
        "Location Category": "Thorax",
        "Modality": "CT - noncontrast",
        "Plane": "Axial",
    }
    assert not reasons


def _lines(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_parts_of_medpix_repeat_the_whole_and_tell_the_test_cases(tables: Tables) -> None:
    folder = tables("formats/medpix2")
    cases = json.loads((folder / "Case_topic.json").read_text(encoding="utf-8"))
    parts = folder / "splitted_dataset"
    parts.mkdir()
    for part in ("train", "train_1", "train_2"):
        _lines(parts / f"data_{part}.jsonl", cases)
    _lines(parts / "data_test.jsonl", [{**cases[0], "U_id": "MPX0002"}])
    assert len(read(folder, "medpix2")[0]) == 2
    (parts / "uid_list.json").write_text(json.dumps({"train": [], "test": ["MPX0001"]}), encoding="utf-8")
    assert all(item.held_out for item in read(folder, "medpix2")[0])
    (parts / "uid_list.json").unlink()
    (folder / "Case_topic.json").unlink()
    items, _ = read(folder, "medpix2")
    assert [(item.unit, item.held_out) for item in items if "text" in item.texts] == [
        ("MPX0002", True),
        ("MPX0001", False),
    ]


def test_vqa_rad_numbers_blanks_and_its_test_part(tables: Tables) -> None:
    folder = tables("formats/vqa_rad")
    items, reasons = read(folder, "vqa-rad")
    assert [(item.unit, item.texts["answer"], item.held_out) for item in items] == [
        ("synpic00001.jpg", "Yes", False),
        ("synpic00001.jpg", "2", True),
    ]
    assert [item.labels["answer_type"] for item in items] == ["CLOSED", "OPEN"]
    assert reasons == {"image is not in the folder": 2}
    (folder / "VQA_RAD Image Folder").mkdir()
    (folder / "VQA_RAD Image Folder" / "synpic00001.jpg").write_bytes(b"\xff\xd8\xff")
    items, reasons = read(folder, "vqa-rad")
    assert all(item.images == (folder / "VQA_RAD Image Folder" / "synpic00001.jpg",) for item in items)
    assert not reasons


def test_slake_languages_and_images_of_one_name(tables: Tables) -> None:
    folder = tables("formats/slake")
    record = json.loads((folder / "train.json").read_text(encoding="utf-8"))[0]
    second = {**record, "img_id": 2, "img_name": "xmlab2/source.png", "q_lang": "en", "answer": 3}
    empty = {**second, "answer": ""}
    (folder / "test.json").write_text(json.dumps([second, empty]), encoding="utf-8")
    (folder / "imgs" / "xmlab2").mkdir()
    (folder / "imgs" / "xmlab2" / "source.png").write_bytes(b"\x89PNG")
    items, reasons = read(folder, "slake")
    assert [(item.unit, item.language, item.held_out) for item in items] == [("2", "en", True), ("1", "zh", False)]
    assert [item.images[0].parent.name for item in items] == ["xmlab2", "xmlab1"]
    assert items[0].texts["answer"] == "3"
    assert reasons == {"answer is empty": 1}


def test_llava_med_with_its_misspelt_key(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/llava_med")
    items, _ = read(folder, "llava-med")
    assert items[0].turns == (Turn("user", "What is shown?"), Turn("assistant", "An opacity."))
    assert items[0].images == (folder / "images" / "1_F1.png",)
    edit(folder / "llava_med_instruct_10k.json", "conversatons", "conversations")
    assert read(folder, "llava-med")[0] == items


def test_pathvqa_images_of_json(tables: Tables) -> None:
    folder = tables("formats/pathvqa")
    items, reasons = read(folder, "pathvqa")
    assert [item.unit for item in items] == ["train_0001"] * 2
    assert items[0].images == (folder / "images" / "train" / "train_0001.jpg",)
    (folder / "qas").mkdir()
    (folder / "qas" / "train_qa.pkl").write_bytes(b"\x80\x04.")
    again, reasons = read(folder, "pathvqa")
    assert again == items
    assert reasons == {"pickle: never opened": 1}


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train_vqa.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    with raises("FW-DATA-032", match=r"train_vqa\.pkl is a pickle"):
        read(tmp_path, "pathvqa")


def test_pathvqa_in_parquet_knows_an_image_by_its_bytes(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": each, "path": None}, "question": "a?", "answer": "b"} for each in (b"1", b"1", b"2")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    items, reasons = read(tmp_path, "pathvqa")
    assert len(items) == 3
    assert items[0].unit == items[1].unit != items[2].unit
    assert all(item.held_out for item in items)
    assert reasons == {"image is not in the folder": 3}


def test_images_in_an_archive_are_told(tables: Tables, tmp_path: Path) -> None:
    folder = tables("formats/llava_med")
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "all.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder).as_posix())
    items, reasons = read(tmp_path / "zip", "llava-med")
    assert items[0].images == ()
    assert reasons == {"image lies in an archive: unpack it": 1}


BAD = [
    ("medpix2", "Case_topic.json", '"U_id"', '"id"'),
    ("medpix2", "Case_topic.json", '"History": "50-year-old"', '"History": ["a"]'),
    ("vqa_rad", "VQA_RAD Dataset Public.json", '"answer": "Yes"', '"answer": true'),
    ("vqa_rad", "VQA_RAD Dataset Public.json", '"image_name": "synpic00001.jpg", "image_organ": "CHEST", "ev', '"ev'),
    ("slake", "train.json", '"q_lang": "zh"', '"q_lang": "fr"'),
    ("llava_med", "llava_med_instruct_10k.json", '"from": "gpt"', '"from": "robot"'),
    ("llava_med", "llava_med_instruct_10k.json", '"conversatons": [', '"conversatons": ["a", '),
    ("pathvqa", "train.json", '"question": "what is shown?"', '"question": {}'),
]


@pytest.mark.parametrize(("name", "file", "old", "new"), BAD)
def test_another_form_is_refused_by_record(
    tables: Tables, edit: Edit, name: str, file: str, old: str, new: str
) -> None:
    folder = tables(f"formats/{name}")
    edit(folder / file, old, new)
    corpus = corpus_named(name.replace("_", "-"))
    known = next(each for each in corpus_files(folder) if each.name == file)
    with raises("FW-DATA-032", match="Record 1 of "):
        list(corpus.read(known, Drops()))  # type: ignore[attr-defined]
