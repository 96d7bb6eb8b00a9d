"""Files as people have them: in archives, other encodings, damaged, with others beside; nothing goes silently."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import detect
from fedward.client.data import documents
from fedward.client.folder import FolderReport, check_folder
from tests.codes import raises

PAIR = {"question": "What is it?", "answer": "Influenza."}
ZH = {"question": "什么是糖尿病的主要症状呢", "answer": "多饮多尿多食体重下降"}


def lines(*records: Any) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def pairs(count: int) -> bytes:
    return lines(*({**PAIR, "question": f"Question {number}?"} for number in range(count)))


def check(folder: Path, **contents: bytes) -> FolderReport:
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return check_folder(folder)


def told(report: FolderReport) -> str:
    return "; ".join(f"{problem.code} {problem.message}" for problem in report.problems)


def zipped(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(mode: str, **members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.bz2", bz2.compress(pairs(3))),
        ("a.jsonl.xz", lzma.compress(pairs(3))),
        ("a.tar.bz2", tarred("w:bz2", a__jsonl=pairs(3))),
        ("a.tar.xz", tarred("w:xz", a__jsonl=pairs(3))),
        ("a.zip", zipped(("x\\a.jsonl", pairs(3)))),
        ("a.zip", zipped(("a.jsonl.gz", gzip.compress(pairs(3), mtime=0)))),
    ],
)
def test_packed_in_usual_ways(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert check_folder(tmp_path).records == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.zip", zipped(("../a.jsonl", pairs(1))), "names files outside of itself"),
        ("a.zip", zipped(("..\\..\\a.jsonl", pairs(1))), "names files outside of itself"),
        ("a.zip", zipped(("x/b.zip", zipped(("a.jsonl", pairs(1))))), "does not unpack"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "does not unpack"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"question": "a", "question": "b", "answer": "c"}', "has a key twice"),
        ("a.json", json.dumps({"train": [PAIR], "test": [PAIR]}).encode(), "wraps several arrays"),
        ("a.txt", "id=1\nDialogue\n".encode("utf-16"), "looks like UTF-16"),
        ("a.csv", "department,title,ask,answer\n".encode("utf-16-le"), "looks like UTF-16"),
        ("a.jsonl", lines(ZH).decode().encode("utf-32"), "looks like UTF-32"),
        ("a.xml.gz", gzip.compress(b"<PubmedArticleSet>" + b" " * 9_000, mtime=0)[:-20], "damaged or cut off"),
    ],
)
def test_refused_by_name(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    report = check_folder(tmp_path)
    assert words in told(report)
    assert name.removesuffix(".gz") in told(report)
    assert "CSV (RFC 4180)" not in report.problems[0].fix


def test_two_members_of_one_name(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = zipped(("a.jsonl", pairs(1)), ("a.jsonl", pairs(2)))
    assert "two files of the same name" in told(check(tmp_path, a__zip=content))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "big5"])
def test_an_encoding_that_is_not_known_is_not_guessed(tmp_path: Path, encoding: str) -> None:
    words = {"latin-1": "Müller straße", "cp1252": "What’s “this”", "shift_jis": "これはなんですか", "big5": "糖尿病"}
    report = check(tmp_path, a__jsonl=json.dumps(words[encoding], ensure_ascii=False).encode(encoding))
    assert "is not encoded as UTF-8: record 1." in told(report)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lines(ZH).decode().encode("gb18030"), "looks like GB18030"),
        (lines(ZH).decode().encode("utf-16"), "looks like UTF-16"),
        (b"hello\n", "Record 1 of b.jsonl is not JSON"),
        (gzip.compress(pairs(3), mtime=0)[:-9], "b.jsonl is damaged or cut off"),
        (gzip.compress(pairs(3), mtime=0)[:12], "b.jsonl is damaged or cut off"),
        (pairs(1)[:-9], "Record 1 of b.jsonl is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_never_passed_over(tmp_path: Path, content: bytes, words: str) -> None:
    report = check(tmp_path, a__jsonl=pairs(2), b__jsonl=content)
    assert words in told(report)
    assert not report.read_whole


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    contents = {"b__jsonl": lines({"messages": [{"role": "user", "content": "Hi"}]}), "README__txt": b"About"}
    contents |= {"c__txt": b"words", "d__zip": zipped(("e.zip", zipped())), "f__csv": b"", "g__png": b"\x89PNG"}
    chat = lines({"messages": [{"role": "assistant", "content": "Hi"}]})
    report = check(tmp_path, a__jsonl=chat, h__jsonl=pairs(2), **contents)
    assert report.format == "chat"
    assert report.unread == {
        "h.jsonl": "is of instructions: check it alone",
        "c.txt": "is in no form that fedward reads",
        "d.zip/e.zip": "is packed in a way that fedward does not unpack: unpack it first",
        "f.csv": "is empty",
    }
    assert report.to_value()["unread"]
    assert report.read_whole


def test_companions_of_a_set_are_read(tmp_path: Path) -> None:
    report = check(tmp_path, a__txt=b"a fever", a__ann=b"T1\tProblem 2 7\tfever\n", b__txt=b"of nothing")
    assert report.unread == {"b.txt": "is in no form that fedward reads"}


def test_blanks_without_end_are_passed_over_quickly(tmp_path: Path) -> None:
    report = check(tmp_path, a__jsonl__gz=gzip.compress(pairs(2) + b" \n" * 4_000_000, 1, mtime=0))
    assert report.records == 2


def test_lines_and_records_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_RECORD", 1 << 16)
    long = b"a" * (1 << 21)
    for name, content in (
        ("a.csv", b"department,title,ask,answer\na,b,c," + long),
        ("a.PubTator.txt", b"1|t|A\n1|a|" + long),
        ("a.jsonl", pairs(1) + b'{"question": "' + long + b'", "answer": "b"}'),
    ):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(content)
        corpus, _ = detect(folder)
        with raises("FW-DATA-005", match="too long"):
            list(corpus.items(folder))


def test_xml_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedward.client.corpora.text_corpus.LONGEST_RECORD", 1 << 16)
    content = b'<Document id="1" source="S"><QAPairs>' + b" " * (1 << 17) + b"</QAPairs></Document>"
    assert "too long" in told(check(tmp_path, a__xml=content))


HEAD = (
    '<?xml version="1.0"?><!DOCTYPE Document SYSTEM "http://127.0.0.1:9/x.dtd"{}><Document id="1" source="S"><QAPairs>'
)
QUESTION = '<QAPair pid="1"><Question qid="1" qtype="t">Is {} well?</Question><Answer>Yes &amp; no</Answer></QAPair>'


@pytest.mark.parametrize(
    ("declared", "words", "right"),
    [
        ("", "&alpha;&nbsp;A", "Is α A well? . Yes & no"),
        ("", "<b>x</b> &beta; A", "Is x β A well? . Yes & no"),
        (' [<!ENTITY x SYSTEM "file:///etc/passwd">]', "&x;", ""),
        (' [<!ENTITY x "inner">]', "&x;", ""),
    ],
)
def test_letters_that_xml_names_are_letters_and_nothing_is_fetched(
    tmp_path: Path, declared: str, words: str, right: str
) -> None:
    content = HEAD.format(declared) + QUESTION.format(words) + "</QAPairs></Document>"
    (tmp_path / "a.xml").write_text(content, encoding="utf-8")
    report = check_folder(tmp_path, show=1)
    assert report.shown == [right] * bool(right)
    assert ("FW-DATA-005" in told(report)) is not bool(right)


def test_letters_that_were_lost_before_are_told(tmp_path: Path) -> None:
    twice = {key: words.encode().decode("latin-1") for key, words in ZH.items()}
    lost = {"question": "What\ufffd?", "answer": "B"}
    report = check(tmp_path, a__jsonl=lines(ZH, {**ZH, "question": ZH["question"] + "吗"}, twice, lost))
    assert sorted(report.drops.remarks.values()) == [1, 1]
    assert "FW-DATA-018" in told(check(tmp_path, a__jsonl=lines(twice, twice, ZH)))


def test_a_text_cannot_move_the_cursor(tmp_path: Path) -> None:
    record = {"question": "a\x1b[2Jb\ud83d?", "answer": "c\u202ed"}
    (tmp_path / "a.jsonl").write_text(json.dumps(record), encoding="ascii")
    assert check_folder(tmp_path, show=1).shown == ["a [2Jb ? . c d"]


def test_units_on_both_sides_are_told(tmp_path: Path) -> None:
    report = check(tmp_path, train__jsonl=pairs(3), test__jsonl=pairs(1))
    words = "questions with records in training that evaluation has, too: these never train"
    assert report.drops.remarks == {("instructions", words): 1}
    assert report.units == 3


@pytest.mark.parametrize(
    ("name", "held_out"),
    [
        *((name, True) for name in ("test.jsonl", "TestSet.jsonl", "x-test-00000-of-00001.jsonl", "tests/a.jsonl")),
        *(
            (name, True)
            for name in ("eval.jsonl", "evaluation/a.jsonl", "held_out.jsonl", "holdout.jsonl", "testA.jsonl")
        ),
        *((name, True) for name in ("MedTest.jsonl", "测试集.jsonl")),
        *(
            (name, False)
            for name in ("train.jsonl", "latest.jsonl", "contest.jsonl", "lab_tests.jsonl", "tester.jsonl")
        ),
    ],
)
def test_parts_for_evaluation_in_any_name(tmp_path: Path, name: str, held_out: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(pairs(1))
    assert check_folder(tmp_path).forms[0].held_out == held_out


@pytest.mark.parametrize("key", ["split", "partition", "set"])
def test_parts_that_records_name(tmp_path: Path, key: str) -> None:
    records = [{**PAIR, "question": part, key: part} for part in ("train", "test", "validation", "Evaluation")]
    form = check(tmp_path, a__jsonl=lines(*records)).forms[0]
    assert (form.records, form.held_out) == (2, 2)


def test_days_and_terms_of_records_are_told(tables: Any) -> None:
    assert [day.year for day in check_folder(tables("mimic3")).times or ()] == [2120, 2121]
    report = check_folder(tables("formats/pmc"))
    assert report.licences.total() == report.records > 0
