"""Canaries: made without their coins, inserted by them, and found in moves of the adapter that hold their gradients."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedward.client.data import Example
from fedward.client.models.adapter_model import build_model, get_vector, resolve_run, set_vector
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import load_scenario
from fedward.privacy.audit import roc
from fedward.privacy.noise import SecureStream
from fedward.simulations.audit import run as audit
from fedward.simulations.audit.run import canary_scores, gradients, make_canaries
from fedward.simulations.parties import SiteData
from tests.codes import raises

TASK = local_task("mortality")
WORDS = """
lactate high low creatinine sepsis pneumonia stable micu age male female fever intubated heart failure sodium glucose
potassium platelets bilirubin hemoglobin stroke trauma surgery elective emergency normal ventilated urgent bleeding
""".split()  # noqa: SIM905


def examples(prefix: str, count: int, seed: int) -> tuple[Example, ...]:
    random = np.random.Generator(np.random.Philox(seed))
    texts = [" ".join(random.choice(WORDS, 12)) for _ in range(count)]
    return tuple(Example(f"{prefix}{i}", "", text, i % 2) for i, text in enumerate(texts))


@pytest.fixture(scope="module")
def files():
    return resolve("tiny-clinical")


@pytest.fixture(scope="module")
def run(files):
    return resolve_run(make_plan(load_scenario("no-dp"), files), files.config())


@pytest.fixture(scope="module")
def model(run, files):
    return build_model(run, files)


@pytest.fixture(scope="module")
def sites():
    return [SiteData(name, examples(name, n, n), examples(f"{name}-e", 6, n + 1)) for name, n in (("a", 8), ("b", 12))]


@pytest.fixture(scope="module")
def canaries(sites, run, files, model):
    return make_canaries(sites, 16, SecureStream(bytes(32)), run=run, files=files, model=model)


def test_coins_decide_who_takes_part_and_nothing_else(canaries, sites, run, files, model):
    inserted = {site.name: site.train for site in canaries.insert(sites)}
    taken = {example.patient_id for example in inserted["b"]} - {example.patient_id for example in sites[1].train}
    expected = {e.patient_id for e, coin in zip(canaries.examples, canaries.included, strict=True) if coin}
    assert canaries.hospital == "b"
    assert taken == expected
    assert 0 < len(taken) < 16
    assert inserted["a"] == sites[0].train
    again = make_canaries(sites, 16, SecureStream.from_os(), run=run, files=files, model=model)
    assert again.included.tolist() != canaries.included.tolist() or again.examples != canaries.examples


def test_canaries_are_made_of_known_words_and_of_no_patient(canaries, sites):
    texts = {example.text for site in sites for example in (*site.train, *site.evaluation)}
    assert all(set(example.text.split()) <= set(WORDS) for example in canaries.examples)
    assert not texts & {example.text for example in canaries.examples}


def test_gradients_are_clipped_and_in_the_order_of_the_records(canaries, run, files, model):
    records = Records.encode(canaries.examples, TASK, files, model, max_tokens=run.plan.adapter.max_tokens)
    start = get_vector(model)
    rows = gradients(model, start, records, TASK, clip=0.5)
    assert np.linalg.norm(rows, axis=1).max() <= 0.5 * (1 + 1e-6)
    raw = gradients(model, start, records, TASK, clip=1e9)
    step = start - 1e-5 * raw[3]
    before, after = (loss_of(model, weights, records, 3) for weights in (start, step))
    assert (before - after) / 1e-5 == pytest.approx(float(raw[3] @ raw[3]), rel=0.05)


def loss_of(model, weights, records, row):
    set_vector(model, weights.astype(np.float32))
    return float(TASK.outcomes(model, records).losses[row])


@pytest.mark.parametrize("turned", [False, True])
def test_moves_that_hold_a_canary_give_it_a_high_score(turned, canaries, sites, run, files, model):
    tokens = run.plan.adapter.max_tokens
    records = Records.encode(canaries.examples, TASK, files, model, max_tokens=tokens)
    others = Records.encode(sites[0].evaluation, TASK, files, model, max_tokens=tokens)
    included = canaries.included[records.order] ^ turned
    random, adapters = np.random.Generator(np.random.Philox(9)), [get_vector(model)]
    for _ in range(6):
        rows = gradients(model, adapters[-1], records, TASK, clip=run.plan.privacy.clip)
        people = gradients(model, adapters[-1], others, TASK, clip=run.plan.privacy.clip).sum(axis=0)
        noise = random.normal(0, 0.005, adapters[-1].size)
        adapters.append((adapters[-1] - 0.05 * (rows[included].sum(axis=0) + people) + noise).astype(np.float32))
    scores = canary_scores(adapters, model, records, others, run.plan, TASK, parties=3)
    assert roc(scores[included], scores[~included]).auc > 0.8


def test_hospitals_are_known_again_by_their_patients_not_their_records(sites, run, monkeypatch):
    twice = [SiteData(s.name, (*s.train, *s.train), (*s.evaluation, *s.evaluation)) for s in sites]
    monkeypatch.setattr(audit, "make_sites", lambda scenario, plan: twice)
    rows = [
        SimpleNamespace(name=s.name, train_units=len(s.train), evaluation_units=len(s.evaluation), positives=6)
        for s in sites
    ]
    audited = SimpleNamespace(scenario=None, run=run, result=SimpleNamespace(hospitals=rows))
    assert audit.hospitals_of(audited) == twice
    rows[0].train_units += 1
    with raises("FW-AUDIT-002"):
        audit.hospitals_of(audited)
