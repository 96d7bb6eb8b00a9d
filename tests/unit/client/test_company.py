"""A record's numbers are the same in any company: features, losses and gradients, bit for bit."""

import numpy as np
import pytest

from fedward.client import training
from fedward.client.data.example import Example
from fedward.client.models.adapter_model import build_model, get_vector, resolve_run
from fedward.client.models.inputs import PrefixInputs
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan
from fedward.privacy.noise import SecureStream

pytestmark = pytest.mark.torch

TEXT = "age 70s . lactate high . micu . intubated . creatinine normal . no fever . cough . sepsis . elective"
WORDS = TEXT.split()
TASKS = {"tiny-clinical": "mortality", "tiny-decoder": "clm"}
PRECISIONS = ("float32", "bfloat16")


def notes(count, seed):
    """Invented notes of 4 to 50 words."""
    draws = np.random.default_rng(seed)
    texts = [" ".join(draws.choice(WORDS, draws.integers(4, 50))) for _ in range(count)]
    return [Example(f"{seed}-{n}", "", text, n % 2) for n, text in enumerate(texts)]


class Hospital:
    """A trainer on one record of interest and others, after its preflight."""

    def __init__(self, base, precision, top_layers, others):
        files = resolve(base)
        adapter = AdapterPlan(rank=2, top_layers=top_layers, max_tokens=96, base_precision=precision)
        privacy = PrivacyPlan(noise_multiplier=1.0, units_per_site=20)
        plan = Plan(name="c", task=TASKS[base], base_model_sha256=files.sha256, adapter=adapter, privacy=privacy)
        run, task = resolve_run(plan, files.config()), local_task(plan.task)
        self.model = build_model(run, files)
        examples = [Example("one", "", " ".join(WORDS * 2), 1), *others]
        self.records = Records.encode(examples, task, files, self.model, max_tokens=96)
        self.trainer = LocalTrainer(self.model, self.records, run, task, SecureStream.from_os())
        self.trainer.preflight()
        self.one = self.records.names.index("one")
        draws = np.random.default_rng(5)
        self.vector = draws.normal(0, 0.05, get_vector(self.model).size).astype(np.float32)

    def numbers(self, company):
        """Loss and gradient of the one record among the first so many others."""
        training.set_vector(self.model, self.vector)
        others = [row for row in range(len(self.records)) if row != self.one][:company]
        rows = np.array(sorted([self.one, *others]), np.int64)
        losses, gradients = self.trainer._engine.gradients(self.trainer._losses, rows, training=True)
        place = int(np.flatnonzero(rows == self.one)[0])
        return losses[place], gradients[place]

    def outcome(self):
        """Its loss as evaluation computes it."""
        training.set_vector(self.model, self.vector)
        return self.trainer._task.outcomes(self.model, self.records).losses[self.one]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("top_layers", [None, 1])
@pytest.mark.parametrize("base", list(TASKS))
def test_a_records_numbers_are_the_same_in_any_company(base, top_layers, precision):
    here, there = (Hospital(base, precision, top_layers, notes(30, seed)) for seed in (1, 2))
    assert isinstance(here.records.inputs, PrefixInputs) == (top_layers == 1)
    if top_layers:
        kept = [each.records.inputs.padded(each.model, np.array([each.one]))[0] for each in (here, there)]
        assert kept[0].equal(kept[1])
    loss, gradient = here.numbers(0)
    assert np.linalg.norm(gradient) > 0
    for each in (here, there):
        for company in (3, 12, 30):
            found = each.numbers(company)
            assert found[0] == loss
            assert np.array_equal(found[1], gradient)
    assert here.outcome() == there.outcome()


def test_where_company_alters_bits_records_are_computed_one_by_one(monkeypatch, caplog):
    hospital = Hospital("tiny-clinical", "float32", None, notes(30, 1))
    losses = hospital.trainer._task.losses

    def mixing(model, records, rows):
        found = losses(model, records, rows)
        return found + 1e-6 * found.detach().mean() * found

    monkeypatch.setattr(type(hospital.trainer._task), "losses", lambda task, *args: mixing(*args))
    hospital.trainer.preflight()
    assert "one by one" in caplog.text
    loss, gradient = hospital.numbers(0)
    found = hospital.numbers(30)
    assert found[0] == loss
    assert np.array_equal(found[1], gradient)


def test_a_plan_says_how_precise_the_frozen_model_is():
    plan = Plan(name="c", base_model_sha256="0" * 64)
    other = replace_adapter(plan, base_precision="bfloat16")
    assert plan.adapter.base_precision == "float32"
    assert plan.hash() != other.hash()


def replace_adapter(plan, **changes):
    """The plan with another adapter section."""
    return plan.model_copy(update={"adapter": plan.adapter.model_copy(update=changes)})
