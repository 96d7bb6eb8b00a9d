"""The membership attack on patients with several records: a patient is in a reference model or out of it."""

import numpy as np

from fedward.client.data import Example
from fedward.client.models.adapter_model import build_model, get_vector, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import SpeedConfig, load_scenario
from fedward.simulations.audit import run as audit
from fedward.simulations.parties import EncodedSite
from fedward.simulations.terminal import RunDisplay


def test_halves_and_counts_are_of_patients(monkeypatch):
    files = resolve("tiny-clinical")
    run = resolve_run(make_plan(load_scenario("no-dp"), files), files.config())
    model = build_model(run, files)

    def records(prefix, patients):
        texts = [Example(f"{prefix}{i % patients}", "", "fever " * (1 + i % 5), i % 2) for i in range(3 * patients)]
        return Records.encode(texts, local_task("mortality"), files, model, max_tokens=16)

    halves, scored = [], []

    def train(half, audience, *_, **__):
        halves.append(set(half.names))
        return audience.outcomes(model, get_vector(model))

    def note(members, others):
        scored.append((len(members), len(others)))
        return roc(members, others)

    roc = audit.roc
    monkeypatch.setattr(audit, "train_apart", train)
    monkeypatch.setattr(audit, "roc", note)
    sites = [EncodedSite(name, records(f"{name}-t", 6), records(f"{name}-e", 4)) for name in ("a", "b")]
    speed = SpeedConfig(hospitals_at_once=1)
    found = audit.membership(model, get_vector(model), sites, run, files, speed, RunDisplay())

    everybody = {name for site in sites for part in (site.train, site.evaluation) for name in part.names}
    assert (found.members, found.others) == (12, 8)
    assert set(scored) == {(12, 8)}
    assert len(halves) == 2 * audit.PAIRS
    for one, other in zip(halves[::2], halves[1::2], strict=True):
        assert (len(one), len(other)) == (10, 10)
        assert one | other == everybody
        assert not one & other
    assert np.isfinite([attack.auc for attack in found.attacks]).all()
