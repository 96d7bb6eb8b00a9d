"""Sets of answers to rank: cMedQA2 and webMedQA."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_cmedqa2_answers_and_candidates(tables: Tables) -> None:
    items, reasons = read(tables("formats/cmedqa2"), "cmedqa2")
    answers, ranked = items[:4], items[4:]
    assert [(item.unit, item.texts["answer"], item.held_out) for item in answers] == [
        ("1", "注意休息，多喝水。", False), ("1", "建议测量血压。", False), ("2", "可以先观察三天。", True),
        ("3", "少食多餐，必要时就诊。", False),
    ]  # fmt: skip
    assert answers[3].texts["question"] == '丙问："胃胀"是病吗？'
    assert [(item.unit, [*item.options], item.right, item.held_out) for item in ranked] == [
        ("3", ["11", "21", "31"], "31", False),
        ("2", ["21", "31"], "21", True),
        ("1", ["11", "12", "21", "31"], "11 12", False),
        ("2", ["11", "21"], "21", False),
    ]
    assert all("answer" not in item.texts for item in ranked)
    assert not reasons


def test_cmedqa2_in_the_zips_of_the_repository(tables: Tables) -> None:
    folder = tables("formats/cmedqa2")
    whole = read(folder, "cmedqa2")
    for path in [*folder.iterdir()]:
        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
            archive.write(path, path.name)
        path.unlink()
    assert read(folder, "cmedqa2") == whole


def test_cmedqa2_files_that_do_not_fit_together(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/cmedqa2")
    edit(folder / "dev_candidates.txt", "3,31,1,1", "3,99,1,1")
    edit(folder / "answer.csv", "12,1,", "12,8,")
    _, reasons = read(folder, "cmedqa2")
    assert reasons == {
        "candidate that is not in answer.csv": 1, "question without a right answer": 1,
        "answer of a question that is not in question.csv": 1,
    }  # fmt: skip
    (folder / "question.csv").unlink()
    with raises("FW-DATA-032", match="answer.csv has no question.csv beside it"):
        read(folder, "cmedqa2")


def test_webmedqa_has_five_fields(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/webmedqa")
    items, reasons = read(folder, "webmedqa")
    assert [(item.unit, item.group, item.right, item.texts["answer"]) for item in items] == [
        ("100", "内科", "1", "注意休息，多喝水。"), ("101", "外科", "2", "先冷敷，两天后热敷。")
    ]  # fmt: skip
    assert items[1].options == {"1": "可以先观察三天。", "2": "先冷敷，两天后热敷。"}
    assert not reasons
    edit(folder / "medQA.train.txt", "外科\t1\t101", "外科\t0\t101")
    edit(folder / "medQA.train.txt", "外科\t0\t101\t扭伤后热敷吗？\t可以", "0\t101\t扭伤后热敷吗？\t可以")
    assert read(folder, "webmedqa")[1] == {
        "question without words or without a right answer": 1,
        "line has not department, 0 or 1, identifier, question and answer": 1,
    }
