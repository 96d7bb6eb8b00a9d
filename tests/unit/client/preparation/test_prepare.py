"""Preparation of data sets: what is written, left out and refused."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.cli.data import app
from fedward.client.corpora import detect
from fedward.client.data.deid import rules_for
from fedward.client.data.scanned import check_scanned, is_scanned
from fedward.client.data.text import language_of
from fedward.client.folder import check_folder
from fedward.client.preparation import prepare as module
from fedward.client.preparation.dates import DateShift
from fedward.client.preparation.prepare import Settings, prepare
from fedward.client.preparation.presidio import presidio
from fedward.client.preparation.quality import Quality
from fedward.client.tasks.task import LocalTask, TextSource
from tests.codes import raises

FORMATS = Path(__file__).parents[3] / "fixtures" / "formats"
FOREIGN = "Le patient est dans un lit avec une toux et il est fatigué depuis trois jours."
NOTES = [
    {"patient_id": "7", "text": "Mr. Okafor, MRN 4471902, admitted 2024-03-05, discharged 2024-03-12. Cough improved."},
    {"patient_id": "7", "text": "Seen March 12, 2024 by Dr. Brandt. No fever today, lungs clear, walks alone again."},
    {"patient_id": "8", "text": "患者钱大川，男，61岁，于2024年3月5日入院，手机13912345678，咳嗽三天，无发热。"},
]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "key"


def write(path: Path, records: list[dict[str, object]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path.parent


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_notes_of_persons_are_masked_shifted_and_read_again(tmp_path: Path, key: Path) -> None:
    card = prepare(write(tmp_path / "in" / "notes.jsonl", NOTES), tmp_path / "out", Settings(key))
    first, second, third = read(tmp_path / "out" / "train.jsonl")
    text = " ".join((first["text"], second["text"], third["text"]))
    assert not any(word in text for word in ("Okafor", "4471902", "2024-03-05", "Brandt", "钱大川", "13912345678"))
    assert first["patient_id"] == second["patient_id"] != third["patient_id"] != "8"
    assert "[NAME]" in third["text"] and "[PHONE]" in third["text"] and "年" in third["text"]
    assert card.masked["DATE shifted"] == 4
    assert card.written == {"train.jsonl": 3} and card.units == 2 and card.languages == {"en": 2, "zh": 1}
    report = check_folder(tmp_path / "out")
    assert not report.unread  # card and marker are of the folder
    assert (report.format, report.scanned, report.records, report.units) == ("person-documents", True, 3, 2)
    assert not report.problems and report.read_whole


def test_card_key_and_marker(tmp_path: Path, key: Path) -> None:
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    card = prepare(folder, tmp_path / "out", Settings(key))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32
    assert json.loads((tmp_path / "out" / "data-card.json").read_text())["hash"] == card.hash
    assert card.hash in (tmp_path / "out" / "data-card.md").read_text()
    assert prepare(folder, tmp_path / "again", Settings(key)).hash == card.hash
    assert prepare(folder, tmp_path / "other", Settings(tmp_path / "keys" / "new")).hash != card.hash
    assert prepare(tmp_path / "out", tmp_path / "twice", Settings(key)).hash == card.hash
    with (tmp_path / "out" / "train.jsonl").open("a") as file:
        file.write('{"patient_id": "9", "text": "Mr. Smith"}\n')
    with raises("FW-DATA-023"):
        is_scanned(tmp_path / "out")


def test_nothing_half_written_and_nothing_replaced(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    (tmp_path / "there").mkdir()
    with raises("FW-CONFIG-005"):
        prepare(folder, tmp_path / "there", Settings(key))
    for inside in (tmp_path / "out" / "key", folder / "key"):
        with raises("FW-CONFIG-006"):
            prepare(folder, tmp_path / "out", Settings(inside))
    monkeypatch.setattr(module.Card, "markdown", lambda card: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(folder, tmp_path / "out", Settings(key))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in", "keys", "there"]


KILLED = """
import os, sys
from pathlib import Path
from fedward.client.preparation import prepare as module
from fedward.client.preparation.dates import DateShift

written = module._Preparation._write
def write(self, *words):
    written(self, *words)
    if self.card.written.total() == 2:
        for file in words[-1].values():
            file.flush()
        print("half", flush=True)
        sys.stdin.read()

module._Preparation._write = write
module.prepare(Path(sys.argv[1]), Path(sys.argv[2]), module.Settings(Path(sys.argv[3])))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_preparation_leaves_no_folder_and_the_next_one_tidies_up(
    end: signal.Signals, tmp_path: Path, key: Path
) -> None:
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    words = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "out"), str(key)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        assert not (tmp_path / "out").exists()
        (part,) = tmp_path.glob(".out.*.part")
        prepare(folder, tmp_path / "beside", Settings(key))
        assert part.exists(), "of another folder"
        process.send_signal(end)
    assert not (tmp_path / "out").exists()
    with raises("FW-DATA-009"):
        detect(tmp_path / "keys")
    prepare(folder, tmp_path / "out", Settings(key))
    assert not list(tmp_path.glob(".*.part"))
    check_scanned(tmp_path / "out")


def test_what_another_preparation_of_the_folder_is_writing_is_left_alone(tmp_path: Path, key: Path) -> None:
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    with module._new_folder(tmp_path / "out") as part:
        (part / "train.jsonl").write_text("")
        prepare(folder, tmp_path / "out", Settings(key))
        assert part.exists()
        with raises("FW-CONFIG-005"):
            prepare(folder, tmp_path / "out", Settings(key))
        shutil.rmtree(tmp_path / "out")


def test_intervals_of_a_person_stay_across_files_layouts_and_runs(tmp_path: Path, key: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [{"patient_id": 7, "text": "Admitted 2024-02-27 with a cough and fever."}])
    rest = [
        {"patient_id": "7.0", "text": "Seen March 2, 2024, the lungs are clear now."},
        {"patient_id": " 7 ", "text": "患者于2024年3月9日出院，咳嗽好转，无发热，步行。"},
        {"patient_id": "007", "text": "Admitted 02/27/2024 with a fall, no fracture seen."},
    ]
    write(tmp_path / "in" / "b.jsonl", rest)
    (tmp_path / "later").mkdir()
    back = "Back on 27 Feb 2025 for a check of the lungs."
    write(tmp_path / "later" / "c.jsonl", [{"subject_id": "7", "note": back}])
    prepare(tmp_path / "in", tmp_path / "out", Settings(key))
    prepare(tmp_path / "later", tmp_path / "more", Settings(key))
    found = [*read(tmp_path / "out" / "train.jsonl"), *read(tmp_path / "more" / "train.jsonl")]
    shift, real = DateShift(key.read_bytes()), [date(2024, 2, 27), date(2024, 3, 2), date(2024, 3, 9)]
    days = [_only_day(record["text"], shift) for record in found]
    assert [day - days[0] for day in days[:3]] == [day - real[0] for day in real]
    assert days[4] - days[0] == date(2025, 2, 27) - real[0]
    assert len({record["patient_id"] for record in found}) == 2
    assert days[3] - real[0] == timedelta(days=shift.days("007")) != days[0] - real[0]


def _only_day(text: str, shift: DateShift) -> date:
    (span,) = [span for span in rules_for(language_of(text))(text).spans if span.kind == "DATE"]
    written = shift.read(text[span.start : span.end])
    assert written is not None
    return written.value


def test_a_second_pass_masks_what_the_rules_have_left_of_a_name(tmp_path: Path, key: Path) -> None:
    def second(text: str) -> Iterator[tuple[str, int, int]]:
        for name in ("Maria Dr. Okafor", "Okafor", "Springfield"):
            if name in text:
                yield "NAME", text.index(name), text.index(name) + len(name)

    text = "Came with Maria Dr. Okafor from Springfield, no fever, walks alone today."
    folder = write(tmp_path / "in" / "n.jsonl", [{"patient_id": 1, "text": text}])
    prepare(folder, tmp_path / "out", Settings(key, second=second))
    (record,) = read(tmp_path / "out" / "train.jsonl")
    assert not any(word in record["text"] for word in ("Maria", "Okafor", "Springfield"))
    assert record["text"].endswith("no fever, walks alone today.")


def test_copies_of_evaluation_records_never_train(tmp_path: Path, key: Path) -> None:
    long = "A patient with fever, cough and chest pain for three days came in; which of these drugs is given at first"
    train = [
        {"question": f"{long}?", "answer": "Penicillin."},
        {"question": f"{long} here?", "answer": "Amoxicillin."},
        {"question": "What is a fever?", "answer": "A high temperature."},
        {"question": "What is a fever?", "answer": "A high temperature."},
        {"question": "What is a fever?", "answer": "More than 38 degrees."},
    ]
    write(tmp_path / "in" / "train.jsonl", train)
    write(tmp_path / "in" / "test.jsonl", [{"question": f"{long}?", "answer": "Penicillin."}])
    card = prepare(tmp_path / "in", tmp_path / "out", Settings(key))
    assert card.written == {"train.jsonl": 2, "test.jsonl": 1}
    assert card.left_out == {
        "copy of a record that is kept for evaluation": 1,
        "nearly a copy of a record that is kept for evaluation": 1,
        "duplicate": 1,
    }
    form = next(form for form in check_folder(tmp_path / "out").forms if form.form == "sft")
    assert (form.records, form.held_out) == (2, 1)


def test_quality_and_languages(tmp_path: Path, key: Path) -> None:
    texts = ["Short.", "1 2 3 4 5 6 7 8 9 10 11 12", FOREIGN, "a b c d e. " + "x" * 40, "No fever, lungs clear, walks."]
    folder = write(tmp_path / "in" / "notes.jsonl", [{"patient_id": 1, "text": text} for text in texts])
    with raises("FW-DATA-020", match=r"fr \(1\)"):
        prepare(folder, tmp_path / "out", Settings(key))
    card = prepare(folder, tmp_path / "out", Settings(key, Quality(min_words=4), leave_out=True))
    assert card.left_out == {
        "too short": 1, "hardly any letters": 1, "no de-identification rules for fr": 1, "repeats itself": 1,
    }  # fmt: skip
    card = prepare(folder, tmp_path / "fr", Settings(key, Quality(languages=frozenset({"en"}))))
    assert card.left_out["language is fr"] == 1
    with raises("FW-DATA-006"):
        prepare(folder, tmp_path / "none", Settings(key, Quality(min_words=500)))


def test_a_birth_that_tells_an_age_over_89_is_masked(tmp_path: Path, key: Path) -> None:
    text = "Born 03/05/1930, seen 04/05/2024 and since 04/01/1990 known for a cough."
    prepare(write(tmp_path / "in" / "n.jsonl", [{"patient_id": 1, "text": text}]), tmp_path / "out", Settings(key))
    found = read(tmp_path / "out" / "train.jsonl")[0]["text"]
    assert found.count("[DATE]") == 1 and found.startswith("Born [DATE]")


class _Running(LocalTask):
    """Stands for a task that learns running text."""

    def __init__(self) -> None:
        from tests.toys.task import LOCAL

        super().__init__(LOCAL.declaration, TextSource("text", label=lambda item: 1))

    targets = unlikely = made_up = losses = outcomes = None  # type: ignore[assignment]


_Running.__abstractmethods__ = frozenset()


def test_running_text_of_persons_trains_only_if_it_was_scanned(tmp_path: Path, key: Path) -> None:
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    with raises("FW-DATA-022"):
        _Running().examples(*detect(folder))
    with raises("FW-DATA-022"):
        check_scanned(folder / "notes.jsonl")
    prepare(folder, tmp_path / "out", Settings(key))
    assert len(_Running().examples(*detect(tmp_path / "out"))) == 3


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("chat", "dialogue"),
        ("person_preferences", "preference"),
        ("choices", "choice"),
        ("bentsao", "sft"),
        ("pubmed", "clm"),
    ],
)
def test_every_form_is_read_again(name: str, form: str, tmp_path: Path, key: Path) -> None:
    card = prepare(FORMATS / name, tmp_path / "out", Settings(key))
    report = check_folder(tmp_path / "out")
    assert card.form == form
    assert report.scanned and report.read_whole and report.records == card.written.total() > 0
    assert next(each for each in report.forms if each.form == form).records == card.written["train.jsonl"]


def test_command(tmp_path: Path, key: Path) -> None:
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    command = ["prepare", str(folder), "--key", str(key), "--min-words", "8"]
    printed = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "a"), "--json"])
    assert printed.exit_code == 0 and json.loads(printed.stdout)["written"] == {"train.jsonl": 3}
    printed = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "b")])
    assert "3 of 3 records, 2 patients" in printed.stdout
    assert "Okafor" not in printed.stdout


def test_persons_who_opted_out_are_not_written(tmp_path: Path, key: Path) -> None:
    (tmp_path / "out.txt").write_text("7\n")
    folder = write(tmp_path / "in" / "notes.jsonl", NOTES)
    card = prepare(folder, tmp_path / "out", Settings(key, exclude=tmp_path / "out.txt"))
    assert (card.read, card.units, card.unread.to_value()[0]["count"]) == (1, 1, 2)


def test_presidio_finds_persons_and_places_on_an_installed_pipeline(tmp_path: Path) -> None:
    """On a pipeline of rules: no trained one is needed to see what is done with what one finds."""
    spacy = pytest.importorskip("spacy")
    pytest.importorskip("presidio_analyzer")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    named = {"PERSON": ("Maria Okafor", "Foley", "BP 120/78"), "GPE": ("Springfield",), "DATE": ("yesterday",)}
    ruler.add_patterns([{"label": kind, "pattern": word} for kind, words in named.items() for word in words])
    pipeline.to_disk(tmp_path / "pipeline")
    text = "Maria Okafor of Springfield came yesterday. BP 120/78, Foley catheter, a.lee@ward.example."
    found = [(kind, text[start:end]) for kind, start, end in presidio(str(tmp_path / "pipeline"))(text)]
    assert sorted(found) == [("ADDRESS", "Springfield"), ("NAME", "Maria Okafor")]
    with raises("FW-PREFLIGHT-002") as refusal:
        presidio("en_no_such_pipeline")
    assert "en_no_such_pipeline" in refusal.value.message


def test_presidio_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with raises("FW-PREFLIGHT-002") as refusal:
        presidio()
    assert "fedward[presidio]" in refusal.value.fix
