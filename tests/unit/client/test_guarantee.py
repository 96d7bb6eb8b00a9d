"""What a hospital checks before its ledger is charged (base model, populations, rows, sampler), and its constants."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fedward.client import hospital as hospital_module
from fedward.client import training
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.tasks import local_task
from fedward.client.tasks.prediction import Binary
from fedward.client.training import GradientSummer, LocalTrainer
from fedward.errors import ResourceError
from fedward.messages import Request, Stage
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.privacy.events import Event
from fedward.privacy.ledger import Ledger, MemoryStore, Population
from fedward.privacy.noise import SecureStream
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites
from tests.codes import raises

NAMES = ("alder", "birch", "cedar")


@pytest.fixture(scope="module")
def parties():
    """A private plan with noise that nobody calibrated, three small hospitals and their agreement."""
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=name, patients=40) for name in NAMES]
    scenario = scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "adapter": scenario.adapter.model_copy(update={"top_layers": 1}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 1}),
        }
    )
    files = resolve(scenario.model)
    draft = draft_plan(scenario, files)
    noise = {"noise_multiplier": 1.0, "release_noise_multiplier": 9.0, "evaluation_noise_multiplier": 9.0}
    plan = draft.model_copy(update={"privacy": draft.privacy.model_copy(update=noise)})
    run = resolve_run(plan, files.config())
    model = build_model(run, files)
    encoded = [EncodedSite.encode(site, run, files, model) for site in make_sites(scenario, plan)]
    return run, files, encoded, agree(run, NAMES)


@pytest.fixture
def found(parties):
    """Opens the first hospital with its ledger, with other records if they are given."""
    run, files, encoded, agreement = parties
    plan = run.plan
    store = MemoryStore()
    terms = {"site": NAMES[0], "cap_epsilon": 8.0, "delta": plan.privacy.delta}
    ledger = Ledger(store, population=Population(plan.split_salt, plan.evaluation_fraction), **terms)

    def make(**records):
        site = replace(encoded[0], **records)
        return make_hospital(run, site, files, agreement, Randomness(), ledger=ledger, microbatch=None)

    return make, store


@pytest.mark.attack("mistake", "a loss in which patients mix")
def test_a_loss_that_mixes_rows_stops_the_hospital_before_its_ledger_is_charged(found, monkeypatch) -> None:
    make, store = found
    plain = Binary.losses
    monkeypatch.setattr(Binary, "losses", lambda *arguments: plain(*arguments) * plain(*arguments).mean())
    with raises("FW-DP-015"):
        make()
    assert len(store.links) == 1  # the terms, and no charge


@pytest.mark.attack("mistake", "a sampler that is not the priced one")
def test_a_sampler_that_is_not_poisson_stops_the_hospital_before_its_ledger_is_charged(found, monkeypatch) -> None:
    make, store = found

    class Half(training.UnitSampler):
        def sample(self):
            rows = np.arange(self.patient_count // 2)
            return rows, rows

    monkeypatch.setattr(training, "UnitSampler", Half)
    with raises("FW-DP-017"):
        make()
    assert len(store.links) == 1


def test_a_round_is_charged_before_anything_is_computed_and_its_shares_are_for_t_less_c(found, monkeypatch) -> None:
    make, store = found
    hospital, seen = make(), []

    def release(*arguments, honest, **rest):
        seen.append((honest, len(store.links)))
        return np.zeros(1, np.int64)

    monkeypatch.setattr(hospital_module, "evaluation_statistics", release)
    monkeypatch.setattr(type(hospital), "encode", lambda self, accepted, values: None)
    manifest = SimpleNamespace(run="run-1", round=1, threshold=3, n0=4)
    hospital._train_round(SimpleNamespace(manifest=manifest))
    assert seen == [(2, 2)]  # t - c, neither t nor n0 - c; the terms and the charge
    with raises("FW-POLICY-013"):
        hospital._train_round(SimpleNamespace(manifest=manifest))


def test_a_round_whose_vector_found_no_space_is_trained_again_for_its_one_charge(found, monkeypatch):
    """Broken: a disk that is full for a moment shuts the hospital out of the round until its daemon is restarted."""
    make, store = found
    hospital, full = make(), [True]

    def contribute(vector, head):
        if full.pop():
            raise ResourceError("no space", code="FW-RESOURCE-301")
        return b"package"

    terms = SimpleNamespace(run="run-1", round=1, threshold=3, n0=4)
    accepted = SimpleNamespace(manifest=terms, needs_training=True)
    monkeypatch.setattr(hospital_module.Published, "of", lambda request: (b"", None))
    monkeypatch.setattr(hospital._follower, "follow", lambda published: None)
    monkeypatch.setattr(hospital, "_check", lambda accepted: None)
    monkeypatch.setattr(hospital, "_values", lambda number, honest: {})
    monkeypatch.setattr(type(hospital), "encode", lambda self, accepted, values: None)
    hospital.secagg = SimpleNamespace(accept_manifest=lambda manifest: accepted, contribute=contribute)
    with raises("FW-RESOURCE-301"):
        hospital._contribute(None)
    full.append(False)
    assert hospital._contribute(None).payload == b"package"
    assert len(store.links) == 2, "the terms and one charge"
    with raises("FW-POLICY-013"):
        hospital._contribute(None)


def test_a_round_that_was_trained_twice_leaves_once(found, monkeypatch) -> None:
    """Broken: two state folders over one ledger train a round each, and both vectors leave under one charge."""
    make, store = found
    hospital, other = make(), make()
    cost = {"run": "run-1", "plan_hash": bytes(32), "round_number": 1, "training": [Event("release", 50.0, 1.0, 1)]}
    hospital.ledger.reserve(**cost)

    def masks(party, output):
        secagg = SimpleNamespace(
            live=SimpleNamespace(run="run-1", round=1),
            output=output,
            mask=lambda payload: SimpleNamespace(header=b"header", vector=np.zeros(4, np.uint8)),
        )
        monkeypatch.setattr(party, "secagg", secagg)
        return party.answer(Request(Stage.MASK, b"heads"))

    masks(hospital, bytes(32))
    assert masks(hospital, bytes(32)).payload == b"header"  # a reply that was lost
    for party in (hospital, other):
        with raises("FW-LEDGER-003"):
            masks(party, b"o" * 32)
    assert len(store.links) == 3


def test_patients_on_both_sides_or_twice_on_one_are_refused(found, parties) -> None:
    make, _ = found
    site = parties[2][0]
    shared = replace(site.evaluation, names=(site.train.names[0], *site.evaluation.names[1:]))
    twice = replace(site.evaluation, names=(site.evaluation.names[1], *site.evaluation.names[1:]))
    for evaluation in (shared, twice):
        with raises("FW-POLICY-016"):
            make(evaluation=evaluation)
    make()


def test_no_evaluation_records_are_refused_before_a_charge(found, parties) -> None:
    make, store = found
    nobody = parties[2][0].evaluation
    with raises("FW-POLICY-016", match="there are none"):
        make(
            evaluation=replace(
                nobody,
                targets=nobody.targets[:0],
                units=nobody.units[:0],
                names=(),
                order=nobody.order[:0],
                inputs=nobody.inputs.chosen(np.arange(0)),
            )
        )
    assert len(store.links) == 1


def test_two_patients_under_one_number_are_refused(found, parties) -> None:
    """Broken: one of them could move a step by twice the clip norm, as both would be drawn as one unit."""
    make, _ = found
    train = parties[2][0].train
    with raises("FW-POLICY-016"):
        make(train=replace(train, units=np.zeros_like(train.units)))


def test_a_ledger_of_another_unit_is_refused(parties) -> None:
    run, files, encoded, agreement = parties
    population = Population(run.plan.split_salt, run.plan.evaluation_fraction)
    terms = {"site": NAMES[0], "cap_epsilon": 8.0, "delta": run.plan.privacy.delta, "unit": "question"}
    ledger = Ledger(MemoryStore(), population=population, **terms)
    with raises("FW-LEDGER-010"):
        make_hospital(run, encoded[0], files, agreement, Randomness(), ledger=ledger, microbatch=None)


def test_another_base_model_is_refused_before_anything_is_built(parties) -> None:
    run, files, _, _ = parties
    with raises("FW-MODEL-020"):
        build_model(run, replace(files, sha256="0" * 64))


@pytest.mark.attack("mistake", "one sample for two steps")
def test_every_step_draws_a_sample_of_its_own(parties) -> None:
    """Broken: one sample serves two steps, which costs epsilon 10.83 where 7.98 is printed."""
    run, files, encoded, _ = parties
    model = build_model(run, files)
    trainer = LocalTrainer(model, encoded[0].train, run, local_task("mortality"), SecureStream.from_os())
    drawn, used, sampler = [], [], trainer._sampler

    def sample():
        found = type(sampler).sample(sampler)
        drawn.append(found)
        return found

    trainer._sampler = SimpleNamespace(sample=sample)
    trainer._engine = SimpleNamespace(step=lambda losses, rows, patients: used.append((rows, patients)))
    trainer._use = lambda kinds, purpose: None
    trainer._steps = 1  # nothing moves here, which the first step would notice
    trainer.run(training.get_vector(model), 3)
    assert len(drawn) == len(used) == 3
    assert all(rows is own[0] and patients is own[1] for (rows, patients), own in zip(used, drawn, strict=True))


def test_a_step_that_moves_nothing_stops_the_run(parties, monkeypatch) -> None:
    run, files, encoded, _ = parties
    trainer = LocalTrainer(
        build_model(run, files), encoded[0].train, run, local_task("mortality"), SecureStream.from_os()
    )
    start = training.get_vector(build_model(run, files))
    monkeypatch.setattr(training, "get_vector", lambda model: start)
    with raises("FW-DP-016"):
        trainer.run(start, 1)


def test_a_shared_step_that_moved_nothing_stops_the_second_round_before_its_charge(parties) -> None:
    run, files, encoded, agreement = parties
    plan, size = run.plan, run.layout.size
    privacy = plan.privacy.model_copy(update={"placement": "secure-grad", "parameters": size})
    run, store = resolve_run(plan.model_copy(update={"privacy": privacy}), files.config()), MemoryStore()
    population = Population(plan.split_salt, plan.evaluation_fraction)
    ledger = Ledger(store, site=NAMES[0], cap_epsilon=8.0, delta=privacy.delta, population=population)
    hospital = make_hospital(run, encoded[0], files, agreement, Randomness(), ledger=ledger, microbatch=None)
    hospital._follower.round = 1  # the first sum was followed, and the adapter stands where it began
    with raises("FW-DP-016"):
        hospital._train_round(SimpleNamespace(manifest=SimpleNamespace(run="run-1", round=2, threshold=3, n0=3)))
    assert len(store.links) == 1


@pytest.mark.attack("c hospitals", "leave out their noise shares")
def test_gradient_shares_are_for_t_less_c(parties, monkeypatch) -> None:
    """Broken: shares sized for t add up to less than is priced as soon as c of the survivors leave theirs out."""
    run, files, encoded, agreement = parties
    plan = run.plan
    changes = {"placement": "secure-grad", "parameters": run.layout.size}
    run = resolve_run(plan.model_copy(update={"privacy": plan.privacy.model_copy(update=changes)}), files.config())
    population = Population(plan.split_salt, plan.evaluation_fraction)
    ledger = Ledger(MemoryStore(), site=NAMES[0], cap_epsilon=8.0, delta=plan.privacy.delta, population=population)
    hospital = make_hospital(run, encoded[0], files, agreement, Randomness(), ledger=ledger, microbatch=None)
    seen = []
    real = type(run).gradient_spec
    monkeypatch.setattr(
        type(run), "gradient_spec", lambda self, *, honest: seen.append(honest) or real(self, honest=honest)
    )
    monkeypatch.setattr(type(hospital), "encode", lambda self, accepted, values: None)
    manifest = SimpleNamespace(run="run-1", round=1, threshold=3, n0=4)
    hospital._train_round(SimpleNamespace(manifest=manifest))
    assert set(seen) == {2}


@pytest.mark.attack("operator", "kills the daemon between training and journal")
def test_a_charge_stays_open_until_the_vector_is_safe(found, monkeypatch) -> None:
    """Broken: after a crash between training and journal the ledger says that the round has left, and it never did."""
    make, store = found
    hospital = make()
    monkeypatch.setattr(type(hospital), "encode", lambda self, accepted, values: None)
    monkeypatch.setattr(hospital_module, "Published", SimpleNamespace(of=lambda request: (b"", None)))
    accepted = SimpleNamespace(manifest=SimpleNamespace(run="run-1", round=1, threshold=3, n0=4), needs_training=True)

    class CrashError(Exception):
        pass

    def contribute(vector, head):
        raise CrashError

    secagg = SimpleNamespace(accept_manifest=lambda manifest: accepted, contribute=contribute)
    hospital.secagg, hospital._follower.follow = secagg, lambda published: None
    monkeypatch.setattr(type(hospital), "_check", lambda self, accepted: None)
    with pytest.raises(CrashError):
        hospital._contribute(None)
    assert len(store.links) == 2  # the terms and the charge, and nothing that settles it
    reservation = hospital.ledger.book.reservation("run-1", 1)
    assert reservation is not None
    assert not reservation.settled


@pytest.mark.parametrize("placement", ["local", "secure-grad"])
def test_no_constant_of_a_step_depends_on_how_many_patients_there_are(parties, monkeypatch, placement) -> None:
    """Broken: a denominator from the hospital's own numbers, which tells them to whoever sees the step."""
    run, files, encoded, _ = parties
    plan = run.plan
    privacy = plan.privacy.model_copy(update={"placement": placement})
    run, seen = resolve_run(plan.model_copy(update={"privacy": privacy}), files.config()), []
    real = training.PrivateEngine

    def record(model, optimizer, params, stream, **rest):
        seen.append(params)
        return real(model, optimizer, params, stream, **rest)

    monkeypatch.setattr(training, "PrivateEngine", record)
    train = encoded[0].train
    few = replace(
        train,
        targets=train.targets[:7],
        units=np.arange(7, dtype=np.int64),
        names=train.names[:7],
        order=train.order[:7],
        inputs=train.inputs.chosen(np.arange(7)),
    )
    kind = LocalTrainer if placement == "local" else GradientSummer
    for records in (train, few):
        kind(build_model(run, files), records, run, local_task("mortality"), SecureStream.from_os())
    assert seen[0] == seen[1]
    assert seen[0].expected_batch == privacy.sampling_rate * privacy.units_per_site
    assert (seen[0].noise_multiplier, seen[0].clip) == (privacy.noise_multiplier, privacy.clip)
