"""`fedward generate`: answers to a prompt or a file, and the warning before adapters that may repeat records."""

import json

import pytest
from typer.testing import CliRunner

from fedward.cli.evaluate import untrained
from fedward.cli.generate import default_task, unsafe
from fedward.client.models.adapter_files import PrivacySection, save_adapter
from fedward.client.tasks import local_task
from tests.codes import raises
from tests.language_models import write_llama

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("decoder"))


def fedward(*arguments):
    import typer

    from fedward.cli.generate import generate

    app = typer.Typer()
    app.command()(generate)
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


def test_every_record_of_a_file_comes_back_with_its_text(decoder, tmp_path):
    asked, answered = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    asked.write_text('{"question": "may i", "answer": "no"}\n{"question": "why", "answer": "so"}\n')
    options = ("--data", asked, "--out", answered, "--max-new-tokens", 4)
    assert fedward(decoder.folder, *options).exit_code == 0
    records = [json.loads(line) for line in answered.read_text().splitlines()]
    assert [record["answer"] for record in records] == ["no", "so"]
    assert all(isinstance(record["generated"], str) and record["tokens"] <= 4 for record in records)
    alone = fedward(decoder.folder, "--prompt", "why", "--max-new-tokens", 4, "--json")
    assert json.loads(alone.stdout)["generated"] == records[1]["generated"]


def test_a_model_without_a_template_goes_on_with_the_text(decoder, tmp_path):
    assert default_task(decoder.folder) == "sft"
    assert default_task(write_llama(tmp_path / "bare", template=None).folder) == "clm"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--temperature", "nan"), "FW-CONFIG-047"),
        (("--temperature", "inf"), "FW-CONFIG-047"),
        (("--temperature", "1e7"), "FW-CONFIG-047"),
        (("--seed", 2**63), "FW-CONFIG-047"),
        (("--base", "tiny-decoder"), "FW-CONFIG-046"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_a_code(decoder, options, code):
    with raises(code):
        fedward(decoder.folder, "--prompt", "why", *options)


def test_files_that_cannot_be_read_or_written_are_refused_before_a_text_is_written(decoder, tmp_path):
    empty, asked = tmp_path / "empty.jsonl", tmp_path / "asked.jsonl"
    empty.write_text("")
    asked.write_text('{"question": "may i"}\n')
    with raises("FW-DATA-006"):
        fedward(decoder.folder, "--data", empty, "--out", tmp_path / "answers.jsonl")
    with raises("FW-CONFIG-004"):
        fedward(decoder.folder, "--data", asked, "--out", tmp_path / "nowhere" / "answers.jsonl")


def test_an_adapter_of_plain_peft_says_nothing_and_comes_with_a_warning(decoder, tmp_path):
    model, folder = untrained(decoder, local_task("sft")), tmp_path / "adapter"
    save_adapter(model, folder, base=decoder, card="", task="sft", max_tokens=64)
    (folder / "fedward.json").unlink()
    assert "does not say" in unsafe(folder)
    assert not unsafe(decoder.folder)


@pytest.mark.parametrize(
    ("privacy", "word"),
    [
        (None, "does not say"),
        (PrivacySection(unit="patient", epsilon=None, delta=None), "patients"),
        (PrivacySection(unit="question", epsilon=None, delta=None), ""),
        (PrivacySection(unit="patient", epsilon=8.0, delta=1e-5), ""),
    ],
)
def test_adapters_that_may_repeat_records_of_persons_come_with_a_warning(decoder, tmp_path, privacy, word):
    model, folder = untrained(decoder, local_task("sft")), tmp_path / "adapter"
    save_adapter(model, folder, base=decoder, card="", task="sft", max_tokens=64, privacy=privacy)
    assert word in unsafe(folder) and bool(word) == bool(unsafe(folder))
    told = fedward(folder, "--base", decoder.folder, "--prompt", "why", "--max-new-tokens", 2, "--json")
    assert told.exit_code == 0
    assert ("Warning" in told.stderr) == bool(word)
