"""A whole private round of three hospitals with a language model of every family that has its own output."""

import numpy as np
import pytest

from fedward.client.data import Example
from fedward.client.models.adapter_model import build_model, resolve_run, start_of
from fedward.client.models.families import FAMILIES
from fedward.client.models.registry import read_model_folder
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.ledger import Ledger, MemoryStore, Population
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.server import SecAggServer
from fedward.server.rounds import Coordinator
from fedward.simulations.one_round import HOSPITALS, DirectCalls
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital
from tests.unit.client.models.conftest import all_targets, config_document, write_model

UNITS = 6
TASKS = {"causal": "sft", "masked": "mlm", "seq2seq": "sft"}
CASES = sorted((name, kind) for name, family in FAMILIES.items() for kind in family.heads if kind in TASKS)


def examples(site, part):
    """Invented questions and their answers, one of each person."""
    turns = (("user", "lactate high"), ("assistant", "sepsis . micu")), (("user", "no fever"), ("assistant", "normal"))
    said = [turns[number % 2] for number in range(UNITS)]
    return [
        Example(f"{site}-{part}-{n}", site, " ".join(text for _, text in each), "", turns=each)
        for n, each in enumerate(said)
    ]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_private_round(family, kind, tmp_path):
    write_model(tmp_path, config_document(family), kind=kind)
    files = read_model_folder(tmp_path, family)
    plan = Plan(
        name="language",
        task=TASKS[kind],
        base_model_sha256=files.sha256,
        adapter=AdapterPlan(rank=2, top_layers=1, targets=all_targets(files.config(), kind)),
        training=TrainingPlan(rounds=1, local_steps=1),
        privacy=PrivacyPlan(noise_multiplier=1.0, evaluation_noise_multiplier=4.0, units_per_site=UNITS),
    )
    run = resolve_run(plan, files.config())
    agreement, task, model = agree(run, HOSPITALS), local_task(plan.task), build_model(run, files)

    def hospital(site):
        parts = [Records.encode(examples(site, part), task, files, model, max_tokens=16) for part in ("t", "e")]
        population = Population(plan.split_salt, plan.evaluation_fraction)
        ledger = Ledger(MemoryStore(), site=site, cap_epsilon=50.0, delta=plan.privacy.delta, population=population)
        encoded = EncodedSite(site, *parts)
        return make_hospital(run, encoded, files, agreement, Randomness(), ledger=ledger, microbatch=None)

    coordinator = Coordinator(
        run=run,
        name="language-1",
        adapter=start_of(run, files.config()),
        secagg=SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal()),
        colluders=agreement.roster.colluders,
        transport=DirectCalls({site: hospital(site) for site in HOSPITALS}),
    )
    before = np.array(coordinator.adapter)
    coordinator.join()
    coordinator.play(1)
    (summary,) = coordinator.summaries
    assert summary.survivors == len(HOSPITALS)
    assert {"nll"} <= set(summary.measures)
    assert np.isfinite(coordinator.adapter).all()
    assert (coordinator.adapter != before).mean() > 0.9
