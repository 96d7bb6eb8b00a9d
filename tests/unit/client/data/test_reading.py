import json

from typer.testing import CliRunner

from fedward.cli import data, shared
from fedward.client.corpora import corpus_named
from fedward.client.data.reading import listening, tell


def test_readers_say_which_file_they_read_and_how_far(tables):
    heard = []
    with listening(lambda file, rows: heard.append((file, rows))):
        list(corpus_named("mimic-iii").items(tables("mimic3")))
    assert {file for file, _ in heard} >= {"PATIENTS.csv", "ADMISSIONS.csv", "ICUSTAYS.csv"}
    assert max(rows for file, rows in heard if file == "ICUSTAYS.csv") > 0


def test_records_are_counted_by_file(tmp_path):
    lines = [{"question": f"what is {n}", "answer": "a number"} for n in range(2500)]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    heard = []
    with listening(lambda file, rows: heard.append((file, rows))):
        list(corpus_named("instructions").items(tmp_path))
    assert heard == [("some.jsonl", 0), ("some.jsonl", 1000), ("some.jsonl", 2000)]


def test_nobody_needs_to_listen():
    tell("some.csv", 7)
    heard = []
    with listening(lambda file, rows: heard.append(rows)):
        tell("some.csv", 8)
    tell("some.csv", 9)
    assert heard == [8]


def test_a_log_gets_plain_lines_now_and_then(monkeypatch, tables):
    monkeypatch.setattr(shared, "SECONDS_BETWEEN_LINES", 0.0)
    folder = str(tables("mimic3"))
    done = CliRunner().invoke(data.app, ["check", folder])
    assert "reading ICUSTAYS.csv: " in done.stderr
    assert "reading" not in done.stdout
    monkeypatch.setattr(shared, "SECONDS_BETWEEN_LINES", 60.0)
    assert CliRunner().invoke(data.app, ["check", folder]).stderr == ""
