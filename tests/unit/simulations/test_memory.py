"""What a language model repeats: all of what it learnt by heart, and nothing of what it never saw."""

import numpy as np
import pytest
import torch

from fedward.client.data import Example
from fedward.client.models.adapter_model import LoraSettings, build
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.privacy.noise import SecureStream, unsafe_seeded_stream
from fedward.simulations.audit import memory
from fedward.simulations.audit.memory import COPIES, SENTENCES, Attacker, Planted, Words, memory_finding
from fedward.simulations.parties import SiteData
from fedward.tasks.task import Head
from tests.language_models import write_llama

pytestmark = pytest.mark.torch
TARGETS = ("query", "value", "attention_output", "feed_forward_gate", "feed_forward_up", "feed_forward_down")


def sites():
    texts = ("fever and cough", "rest well drink water", "two tablets a day for the heart", "no pain")
    train = [
        Example(f"p{n}", "", text, "", turns=(("user", text), ("assistant", text))) for n, text in enumerate(texts)
    ]
    return [SiteData("north", train, train[:1]), SiteData("south", train[:2], train[:1])]


def learn_by_heart(model, attacker, sentences):
    """Trains until greedy decoding says every sentence word for word."""
    examples = [attacker.task.sentence("u", each.beginning, each.secret) for each in sentences]
    records = Records.encode(examples, attacker.task, attacker.files, model, max_tokens=120)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.005)
    for step in range(1000):
        if step % 40 == 39 and all(attacker._completes(model, each) for each in sentences):
            return
        optimizer.zero_grad()
        attacker.task.losses(model, records, np.arange(len(records))).mean().backward()
        optimizer.step()
    pytest.fail("the sentences were not learnt")


@pytest.mark.parametrize("name", ["sft", "clm"])
def test_all_sentences_belong_to_one_unit_of_one_hospital(name):
    task, words = local_task(name), Words(sites(), SecureStream.from_os())
    planted = Planted.draw(sites(), words, "canary-planted")
    north, south = planted.insert(sites(), task)
    more = north.train[4:]
    assert planted.hospital == "north" and len(south.train) == 2
    assert len(more) == SENTENCES * sum(COPIES) and {each.unit for each in more} == {"canary-planted"}
    assert {word for each in more for word in each.text.split()} <= set(words._words)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "clm"])
def test_what_was_learnt_by_heart_is_found_and_what_was_not_is_not(tmp_path, name, monkeypatch):
    monkeypatch.setattr(memory, "REFERENCES", 31)  # fewer, to be quick
    files, task = write_llama(tmp_path, hidden=32, layers=1), local_task(name)
    model = build(files, LoraSettings(rank=8, targets=TARGETS, head=Head("causal")), seed=0)
    with torch.no_grad():
        model.bare_base().lm_head.weight.mul_(20.0)  # else no hidden state makes any token likely
    words = Words(sites(), unsafe_seeded_stream(5, "planted"))
    planted = Planted.draw(sites(), words, "canary-planted")
    attacker = Attacker(task, files, 120, words)
    before = attacker.findings(model, planted, private=True)
    learn_by_heart(model, attacker, [each for each in planted.sentences if each.copies == 16])
    after = attacker.findings(model, planted, private=False)
    reach = memory_finding("north", after).exposure_reach
    assert reach == 5.0
    assert all(row.completed == 0.0 for row in before)
    assert after[-1].copies == 16 and not after[-1].private
    assert after[-1].exposure > reach - 1 and after[-1].completed == 1.0 and after[-1].membership_auc > 0.95
    assert np.mean([row.exposure for row in before]) < reach / 2
