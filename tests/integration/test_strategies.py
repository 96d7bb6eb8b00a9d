"""Every strategy end to end: ServerApp, ClientApps, protocol, engine, ledger, adapter on disk."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModel

from fedward.client.flower import make_client_app
from fedward.client.models.adapter_files import read_card
from fedward.client.models.adapter_model import adapter_parameters, build_model, get_vector, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.training import Kept
from fedward.errors import PolicyError, QuorumError
from fedward.planning import budget, estimate
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.server import SecAggServer
from fedward.run import Schedule
from fedward.server.flower import GridTransport
from fedward.server.rounds import Coordinator
from fedward.simulations import run as simulation
from fedward.simulations.federation import InProcessGrid
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites
from fedward.simulations.run import Options, run_scenario
from fedward.strategies.registry import NAMES as KNOWN
from fedward.strategies.registry import base_of, find_strategy

pytestmark = pytest.mark.slow

SAME_PATH = {"fedadagrad", "fedadam"}
"""As fedyogi, but for one line that tests/unit/strategies/test_delta_optimizers.py compares with Flower's."""
NAMES = sorted(
    name
    for name, declared in ((name, find_strategy(base_of(name)).declaration) for name in KNOWN)
    if name not in SAME_PATH and declared.fewest_hospitals <= 3 and not (declared.variates or declared.personalises)
)
"""test_personal_models.py and test_robustness.py have the kinds that are left out."""
PRICING = [(budget, "epsilon_curve"), (simulation, "certify")]


@pytest.fixture(scope="module", autouse=True)
def priced_once():
    """All of these runs have the same noise, steps and releases: one price, and more noise than epsilon = 8 needs."""
    known = {}

    def remembered(function):
        @functools.wraps(function)
        def call(*arguments, **named):
            key = f"{function.__name__} {arguments} {sorted(named.items())}"
            if key not in known:
                known[key] = function(*arguments, **named)
            return known[key]

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in PRICING:
            patch.setattr(module, name, remembered(getattr(module, name)))
        enough = SimpleNamespace(noise_multiplier=1.5, release_noise_multiplier=None)
        patch.setattr(estimate, "calibrate", lambda **_: enough)
        patch.setattr(estimate, "calibrate_releases", lambda **_: 4.0)
        yield


def small(**adapter):
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=70 + 10 * i) for i in range(3)]
    return scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "adapter": scenario.adapter.model_copy(update={"rank": 4, **adapter}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 2}),
            "privacy": scenario.privacy.model_copy(update={"units_per_site": 50, "release_every": 3}),
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_private_federation_of_the_strategy_runs_to_a_loadable_adapter(name, tmp_path):
    out = tmp_path / "run"
    options = Options(out=out, strategy=name, federated_only=True, display="quiet")
    result = run_scenario(
        small(ranks={"site-0": 3, "site-1": 2} if find_strategy(base_of(name)).declaration.mixed_ranks else {}), options
    )
    assert result.scenario.strategy == name
    assert result.secure_sum.exact
    assert result.privacy.private
    assert 0.5 < result.privacy.epsilon_max < 8.0
    assert result.rounds == 2
    assert [point.round for point in result.curve] == [0, 1, 2]
    assert {row.epsilon for row in result.hospitals} == {result.privacy.epsilon_max}
    card = read_card(out / "adapter")
    encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(resolve("tiny-clinical").folder), out / "adapter")
    stored = load_file(out / "adapter" / "adapter_model.safetensors")
    assert card.lora.rank == 4
    assert len(stored) == 4
    assert all(np.abs(values).max() > 0 for values in stored.values())
    held = {n.replace(".default", ""): p.detach().numpy() for n, p in encoder.named_parameters() if "lora_" in n}
    assert all(np.array_equal(held[key], stored[key]) for key in stored)


class FourHospitals:
    """A federation without differential privacy, one protocol round at a time."""

    def __init__(self, strategy="fedask", rounds=2):
        scenario = load_scenario("no-dp")
        sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=60) for i in range(4)]
        scenario = scenario.model_copy(
            update={
                "strategy": strategy,
                "data": scenario.data.model_copy(update={"site": sites}),
                "training": scenario.training.model_copy(update={"rounds": rounds, "local_steps": 1}),
            }
        )
        files = resolve(scenario.model)
        plan = estimate.make_plan(scenario, files)
        self.run = resolve_run(plan, files.config())
        model = build_model(self.run, files)
        data = make_sites(scenario, plan)
        agreement = agree(self.run, [site.name for site in data])
        self.hospitals = [
            make_hospital(
                self.run,
                EncodedSite.encode(site, self.run, files, model),
                files,
                agreement,
                Randomness(),
                ledger=None,
                microbatch=None,
            )
            for site in data
        ]
        transport = GridTransport(InProcessGrid({n: make_client_app(h) for n, h in enumerate(self.hospitals, start=2)}))
        transport.discover([hospital.name for hospital in self.hospitals], seconds=5)
        self.survivors = []
        self.coordinator = Coordinator(
            run=self.run,
            name="run-1",
            adapter=get_vector(model),
            secagg=SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal()),
            colluders=agreement.roster.colluders,
            transport=transport,
            on_round=lambda summary, done: self.survivors.append(sorted(done.survivors)),
        )
        self.coordinator.join()


def test_a_hospital_that_lost_its_training_costs_the_training_round_and_nothing_moves():
    federation = FourHospitals()
    coordinator, first = federation.coordinator, federation.hospitals[0]
    start = coordinator.adapter.copy()
    coordinator.play(1)
    first.learner.side._store._kept = Kept("run-1")  # as if its state folder had lost them
    assert np.array_equal(coordinator.adapter, start)
    everyone = sorted(hospital.name for hospital in federation.hospitals)
    others = everyone[1:]  # who cost a training round sits the next one out
    coordinator.run()
    assert [(s.round, names) for s, names in zip(coordinator.summaries, federation.survivors, strict=True)] == [
        (1, everyone),
        (3, others),
        (4, others),
        (5, everyone),
    ]
    assert {(i.round, i.site) for i in coordinator.incidents} == {(2, first.name)}
    assert coordinator.incidents[0].code == "FW-POLICY-018"
    assert not np.array_equal(coordinator.adapter, start)
    assert all(np.array_equal(hospital.adapter, coordinator.adapter) for hospital in federation.hospitals)


def silent(federation, hospital, when):
    """``hospital`` does not answer requests for which ``when(protocol round, stage)`` holds."""
    answer, coordinator = hospital.answer, federation.coordinator

    def sometimes(request):
        if when(coordinator.round, request.stage):
            raise PolicyError("away", code="FW-POLICY-018")
        return answer(request)

    hospital.answer = sometimes


def rounds_of(federation):
    return [summary.round for summary in federation.coordinator.summaries]


def test_a_hospital_that_is_never_there_for_the_second_sum_does_not_take_the_others_budget():
    federation = FourHospitals(rounds=8)
    silent(federation, federation.hospitals[0], lambda number, stage: number % 2 == 0 and stage != "result")
    federation.coordinator.run()
    # lost: 2, 6 and 14, no two in a row, with one and three training rounds without it, and the scoring round
    assert rounds_of(federation) == [1, 3, 4, 5, *range(7, 14), 15, 16, 17]
    assert [len(names) for names in federation.survivors] == [4, 3, 3, 4, *[3] * 6, 4, 3, 3, 3]


def test_losses_in_a_row_stop_the_run_which_goes_on_later():
    federation = FourHospitals(rounds=6)
    for index, hospital in enumerate(federation.hospitals[:3]):
        silent(
            federation, hospital, lambda number, stage, second=2 * index + 2: number == second and stage == "manifest"
        )
    with pytest.raises(QuorumError):
        federation.coordinator.run()
    assert rounds_of(federation) == [1, 3, 5]
    federation.hospitals[2].answer = type(federation.hospitals[2]).answer.__get__(federation.hospitals[2])
    federation.coordinator.run()
    assert rounds_of(federation) == [1, 3, *range(5, 14)]


@pytest.mark.parametrize("stage", ["confirm", "unmask"])
def test_a_single_missed_reply_to_the_second_sum_costs_nothing(stage):
    federation, missed = FourHospitals(), []
    first = federation.hospitals[0]
    silent(federation, first, lambda n, asked: (n, asked) == (2, stage) and not missed and not missed.append(n))
    federation.coordinator.run()
    assert missed == [2]
    assert rounds_of(federation) == [1, 2, 3, 4, 5]
    assert all(np.array_equal(hospital.adapter, federation.coordinator.adapter) for hospital in federation.hospitals)


def test_a_first_sum_too_small_for_the_roster_to_be_followed_is_not_closed():
    federation = FourHospitals()
    coordinator, last, missed = federation.coordinator, federation.hospitals[-1], []
    coordinator._secagg.min_cohort = 4
    silent(federation, last, lambda n, stage: (n, stage) == (1, "mask") and not missed and not missed.append(n))
    coordinator.run()
    assert missed == [1]
    assert rounds_of(federation) == [1, 2, 3, 4, 5]
    assert [len(names) for names in federation.survivors] == [4] * 5


def test_an_epoch_that_a_survivor_does_not_join_costs_the_training_round():
    federation = FourHospitals()
    coordinator = federation.coordinator
    coordinator.play(1)
    silent(federation, federation.hospitals[0], lambda number, stage: stage == "join")
    coordinator.join()
    coordinator.run()
    assert rounds_of(federation) == [1, 3, 4, 5]
    assert [len(names) for names in federation.survivors] == [4, 3, 3, 3]


def test_the_sum_before_is_the_one_directly_before():
    """Sum 3 was opened and is kept from the hospitals; sum 4 is asked for over the survivors of an older result."""
    federation = FourHospitals()
    coordinator = federation.coordinator
    for number in (1, 2):
        coordinator.play(number)
    hidden = coordinator._secagg.begin_round(coordinator._terms(3))
    coordinator._sums._attempt(hidden, 0)
    coordinator._secagg.give_up()
    coordinator._cohorts.of_round = lambda number: ([hospital.name for hospital in federation.hospitals], 4)
    with pytest.raises(QuorumError):
        coordinator.play(4)
    assert {i.code for i in coordinator.incidents if i.round == 4} == {"FW-POLICY-021"}


def test_hospitals_refuse_a_second_sum_that_would_show_one_of_them():
    """Both sums of FedASK are of the same training: over one hospital less, their difference is that hospital's."""
    everyone = [f"site-{i}" for i in range(4)]
    for cheat in ((everyone[1:], 3), (everyone, 3)):
        federation = FourHospitals()
        coordinator = federation.coordinator
        coordinator.play(1)
        coordinator._cohorts.of_round = lambda number, cheat=cheat: cheat
        with pytest.raises(QuorumError):
            coordinator.play(2)
        asked, _ = cheat
        assert {(i.site, i.code) for i in coordinator.incidents} == {(n, "FW-POLICY-021") for n in asked}


def test_a_hospital_that_missed_the_first_sum_is_not_let_into_the_second():
    federation = FourHospitals()
    coordinator, last = federation.coordinator, federation.hospitals[-1]
    answer, last.answer = last.answer, lambda request: _raise(PolicyError("away", code="FW-POLICY-018"))
    coordinator.play(1)
    last.answer = answer
    coordinator._cohorts.of_round = lambda number: ([f"site-{i}" for i in range(4)], 4)
    with pytest.raises(QuorumError):
        coordinator.play(2)
    assert {i.code for i in coordinator.incidents if i.round == 2} == {"FW-POLICY-021"}
    del coordinator._cohorts.of_round
    coordinator.run()
    assert federation.survivors == [[f"site-{i}" for i in range(n)] for n in (3, 4, 4, 4)]


def _raise(error):
    raise error


def test_the_second_sum_touches_no_record_and_costs_nothing():
    federation = FourHospitals()
    federation.coordinator.play(1)
    plan = federation.run.plan
    for hospital in federation.hospitals:
        hospital.learner.trainer = hospital.train = hospital.evaluation = None
    federation.coordinator.play(2)
    assert federation.coordinator.incidents == []
    noise = dict.fromkeys(("noise_multiplier", "release_noise_multiplier", "evaluation_noise_multiplier"), 1.0)
    private = Schedule.of(
        plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"private": True, **noise})})
    )
    assert [len(private.training_events(number)) for number in (1, 2, 3, 4, 5)] == [1, 0, 1, 0, 0]
    assert [len(private.evaluation_events(number)) for number in (1, 2, 3, 4, 5)] == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("strategy", ["ffa", "fedsb"])
def test_a_hospital_whose_frozen_factor_was_initialised_again_sends_nothing(strategy):
    federation = FourHospitals(strategy)
    first, *others = federation.hospitals
    frozen = [p for name, p in adapter_parameters(first.model).items() if name.endswith("lora_A.weight")]
    with torch.no_grad():
        frozen[0].add_(1e-3)
    federation.coordinator.play(1)
    assert federation.survivors == [sorted(hospital.name for hospital in others)]
    assert [(i.site, i.code) for i in federation.coordinator.incidents] == [(first.name, "FW-STRATEGY-009")]
    assert first._trained == 0
