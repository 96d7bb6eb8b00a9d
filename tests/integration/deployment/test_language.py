"""Three hospitals fine-tune the packaged decoder on answers of their own, deployed, by the commands people type."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedward.client.models.adapter_model import build_model, resolve_run, set_vector
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.config import load_toml
from fedward.plan import Plan
from fedward.privacy.ledger import FileStore, verify
from fedward.server.job_files import read_vector

pytestmark = [pytest.mark.slow, pytest.mark.torch]
ANSWERS = Path(__file__).parents[2] / "fixtures" / "answers" / "answers.jsonl"
PLANTED = "Zacharias Quintonwell"
LAYOUTS = dict.fromkeys(("st-anna", "st-bede", "st-clare"), "medquad")
SCENARIO = f"""
name = "deployed"
task = "sft"
model = "tiny-decoder"
[data]
source = "medquad"
path = "{ANSWERS}"
[training]
rounds = 2
local_steps = 2
[adapter]
rank = 2
top_layers = 1
max_tokens = 48
[privacy]
epsilon = 4.0
delta = 1e-5
units_per_site = 60
sampling_rate = 0.4
release_every = 2
evaluate_every = 2
[secure_sum]
leg_seconds = 150
"""


def write_data(folder, name):
    """The answers of one hospital, each of which says a name that nothing outside its folder may ever show."""
    lines = ANSWERS.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for place, record in enumerate(records):
        record |= {"question": f"{record['question']} ({name} {place})", "answer": f"{PLANTED}: {record['answer']}"}
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


def test_whoever_decides_reads_what_the_model_learns_and_what_leaves(federation):
    shown = federation.hospitals[0].say("approve", "show", federation.signed).lower()
    for words in ("answer", "question", "epsilon 4.0", "what leaves", "never:", "within this hospital's policy"):
        assert words in shown
    for hospital in federation.hospitals:
        hospital.accept(federation.signed, "--by", "DPO")
    federation.serve()
    report = json.loads(federation.hospitals[0].say("doctor", "--json"))["checks"]
    assert [check for check in report if check["level"] == "FAIL"] == []
    assert "run-1: ready" in federation.hospitals[0].say("run", "--dry-run")


def test_the_three_train_one_decoder_and_every_ledger_is_charged(federation, eventually):
    for hospital in federation.hospitals:
        hospital.start()
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    eventually(lambda: federation.run("run-1")["state"] in ("completed", "failed"))
    assert federation.run("run-1")["state"] == "completed", federation.daemon.text()
    for hospital in federation.hospitals:
        (chain,) = hospital.state.rglob("ledger.chain")
        book = verify(FileStore(chain.parent))
        assert {each.run for each in book.reservations.values()} == {"run-1"}
        assert 3.9 < book.spent() < 4.01  # noise is calibrated to one part in a thousand
        assert all(each.settled for each in book.reservations.values())


def test_the_adapter_is_one_of_the_packaged_decoder(federation):
    plan, files = load_toml(federation.plan / "plan.toml", Plan), resolve("tiny-decoder")
    run, task = resolve_run(plan, files.config()), local_task("sft")
    model = build_model(run, files)
    layout, adapter = read_vector(federation.state / "runs" / "run-1" / "adapter.safetensors")
    _, start = read_vector(federation.plan / "start.safetensors")
    assert layout == run.layout
    assert not np.array_equal(adapter, start)
    set_vector(model, adapter)
    example = task.sentence("q", "What helps against a cough?", "Rest.")
    records = Records.encode([example], task, files, model, max_tokens=plan.adapter.max_tokens)
    assert np.isfinite(task.outcomes(model, records).losses).all()


def test_no_word_of_an_answer_has_left(federation):
    first, last = (word.encode() for word in PLANTED.lower().split())
    for path in federation.folder.rglob("*"):
        if path.is_file() and federation.data not in path.parents:
            data = path.read_bytes().lower()
            assert first not in data and last not in data, path
    logs = (federation.daemon.log, *(hospital.log for hospital in federation.hospitals))
    for path in (*logs, *(federation.state / "runs").glob("*/run.log")):
        assert "Traceback" not in path.read_text(errors="replace"), path
