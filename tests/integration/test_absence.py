"""Hospitals that miss rounds, and sums too large to be recomputed whole, over the stages of a real run."""

import numpy as np
import pytest

from fedward.client.flower import make_client_app
from fedward.client.models.adapter_model import build_model, get_vector, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.training import LocalTrainer
from fedward.errors import FedwardError, NetworkError
from fedward.messages import Reply, Request, Stage
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.privacy.secagg import encoding, results
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.server import SecAggServer
from fedward.server import history
from fedward.server.flower import GridTransport
from fedward.server.rounds import Coordinator
from fedward.simulations.federation import InProcessGrid
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites

pytestmark = pytest.mark.slow


class Away:
    """A site that does not hear the stages named in ``misses``: (round, stage)."""

    def __init__(self, site, misses, round_number):
        self.name, self._site, self._misses, self._round_number = site.name, site, misses, round_number
        self.heard = []

    def answer(self, request):
        number = self._round_number()
        self.heard.append(request.stage)
        if (number, request.stage) in self._misses or (number, "all") in self._misses:
            raise NetworkError("Nobody answered.", code="FW-NET-090")
        return self._site.answer(request)


class Federation:
    """Five hospitals, of which each round needs four, without differential privacy and with training made up."""

    def __init__(self, monkeypatch, rounds=4):
        def made_up(self, adapter, steps, **options):
            return np.random.default_rng(steps).normal(0, 1e-3, adapter.size).astype(np.float32)

        monkeypatch.setattr(LocalTrainer, "run", made_up)
        scenario = load_scenario("no-dp")
        sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=60) for i in range(5)]
        scenario = scenario.model_copy(
            update={
                "data": scenario.data.model_copy(update={"site": sites}),
                "training": scenario.training.model_copy(update={"rounds": rounds, "local_steps": 1}),
            }
        )
        files = resolve(scenario.model)
        self.terms = resolve_run(make_plan(scenario, files), files.config())
        self.model = build_model(self.terms, files)
        sites = make_sites(scenario, self.terms.plan)
        self.agreement = agree(self.terms, [site.name for site in sites])
        self.hospitals = {
            site.name: make_hospital(
                self.terms,
                EncodedSite.encode(site, self.terms, files, self.model),
                files,
                self.agreement,
                Randomness(),
                ledger=None,
                microbatch=None,
            )
            for site in sites
        }

    def run(self, misses, kind=Coordinator):
        """Runs the plan; ``misses`` says by site what it does not hear."""
        self.coordinator = None
        self.sites = {
            name: Away(site, misses.get(name, ()), lambda: self.coordinator.round)
            for name, site in self.hospitals.items()
        }
        apps = {node: make_client_app(site) for node, site in enumerate(self.sites.values(), start=2)}
        transport = GridTransport(InProcessGrid(apps))
        transport.discover(list(self.hospitals), seconds=5)
        self.survivors = {}
        self.coordinator = kind(
            run=self.terms,
            name="run-1",
            adapter=get_vector(self.model),
            secagg=SecAggServer(
                identity=self.agreement.coordinator, roster=self.agreement.signed, journal=MemoryJournal()
            ),
            colluders=self.agreement.roster.colluders,
            transport=transport,
            on_round=lambda summary, done: self.survivors.update({summary.round: set(done.survivors)}),
        )
        self.coordinator.run()

    def codes(self):
        return {incident.code for incident in self.coordinator.incidents}

    def all_follow(self):
        final = self.coordinator.adapter
        return all(np.array_equal(hospital.adapter, final) for hospital in self.hospitals.values())


def test_hospitals_that_miss_a_round_at_any_stage_stay_in_the_run(monkeypatch):
    federation = Federation(monkeypatch)
    federation.run(
        {
            "site-0": {(1, Stage.MANIFEST)},
            "site-1": {(2, Stage.MASK)},
            "site-2": {(3, Stage.CONFIRM), (3, Stage.UNMASK)},
            "site-3": {(4, Stage.UNMASK)},
        }
    )
    everyone = set(federation.hospitals)
    assert federation.survivors == {
        1: everyone - {"site-0"},
        2: everyone - {"site-1"},
        3: everyone,
        4: everyone,
        5: everyone,
    }
    assert federation.codes() == {"FW-NET-090"}
    assert federation.all_follow()


def test_a_hospital_that_was_away_for_long_catches_up_in_steps_and_joins_again(monkeypatch):
    """One round fits into a message, so it follows the first alone before it is told the second and asked to train."""
    monkeypatch.setattr(history, "BATCH_BYTES", 1)
    federation = Federation(monkeypatch)
    federation.run({"site-0": {(1, "all"), (2, "all")}})
    everyone = set(federation.hospitals)
    heard = [stage for stage in federation.sites["site-0"].heard if stage in (Stage.MANIFEST, Stage.RESULT)]
    assert heard == ["manifest", "manifest", "result", "manifest", "manifest", "manifest", "result"]
    assert federation.codes() == {"FW-NET-090"}
    assert federation.survivors == {n: everyone - {"site-0"} if n < 3 else everyone for n in range(1, 6)}
    assert federation.all_follow()


def test_a_hospital_that_is_away_when_keys_are_made_is_let_in_after_a_round_and_follows_all_of_them(monkeypatch):
    federation = Federation(monkeypatch)
    federation.run({"site-0": {(0, "all")}})
    everyone = set(federation.hospitals)
    assert federation.survivors == {n: everyone - {"site-0"} if n < 2 else everyone for n in range(1, 6)}
    assert federation.sites["site-0"].heard.count(Stage.JOIN) == 2
    assert federation.all_follow()


def test_a_hospital_that_stays_away_is_asked_for_keys_less_and_less_often(monkeypatch):
    federation = Federation(monkeypatch)
    federation.run({"site-0": {(n, "all") for n in range(9)}})
    assert federation.sites["site-0"].heard.count(Stage.JOIN) == 3, "at first, after round 1, and after two more"
    assert all("site-0" not in survivors for survivors in federation.survivors.values())


def test_a_round_that_is_no_longer_kept_leaves_an_absent_hospital_behind_and_nobody_else(monkeypatch):
    monkeypatch.setattr(history, "KEPT_BYTES", 1)
    federation = Federation(monkeypatch)
    federation.run({"site-0": {(1, "all"), (2, "all")}})
    assert federation.codes() == {"FW-NET-090", "FW-SECAGG-042"}
    assert all("site-0" not in survivors for survivors in federation.survivors.values())
    others = [hospital for name, hospital in federation.hospitals.items() if name != "site-0"]
    assert all(np.array_equal(hospital.adapter, federation.coordinator.adapter) for hospital in others)


@pytest.fixture
def sampled(monkeypatch):
    """Rounds count as large: each hospital checks about a third of the chunks."""
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 256)
    made = Federation(monkeypatch, rounds=2)
    monkeypatch.setattr(results, "AUDIT_BYTES", 5 * 4 * made.terms.layout.size // 3)
    return made


def test_large_sums_are_sampled_by_every_hospital_also_by_one_that_was_away(sampled):
    sampled.run({"site-0": {(2, Stage.MANIFEST)}})
    assert sampled.codes() == {"FW-NET-090"}
    assert sampled.all_follow()
    asked = {name: site.heard.count(Stage.CHALLENGE) for name, site in sampled.sites.items()}
    assert set(asked.values()) == {sampled.terms.plan.training.rounds}, (
        "once for each large round, whenever it was heard of"
    )


class ChoosesTheSum(Coordinator):
    """Adds something of its own to every word of the first sum, with a digest that fits it."""

    def _secure_sum(self, number):
        done, vectors, evidence = super()._secure_sum(number)
        if number == 1:
            done.sum.segment("delta")[:] += 1000
        return done, vectors, evidence


def test_a_large_false_sum_is_found_by_every_hospital(sampled):
    with pytest.raises(FedwardError):
        sampled.run({}, ChoosesTheSum)
    assert "FW-SECAGG-082" in sampled.codes()
    start = get_vector(sampled.model)
    assert all(np.array_equal(hospital.adapter, start) for hospital in sampled.hospitals.values())


class OtherChunks:
    """A transport on which every hospital seems to choose the first chunks."""

    def __init__(self, transport):
        self._transport = transport

    def exchange(self, requests, *, seconds):
        stages = {}

        def noted():
            for site, request in requests:
                stages[site] = request.stage
                yield site, request

        for site, reply in self._transport.exchange(noted(), seconds=seconds):
            yield site, Reply(b"\x82\x00\x01") if stages[site] is Stage.CHALLENGE else reply


class ShowsOtherChunks(Coordinator):
    """Answers every challenge with the first chunks."""

    def __init__(self, *, transport, **terms):
        super().__init__(transport=OtherChunks(transport), **terms)


def test_chunks_that_a_hospital_did_not_choose_do_not_convince_it(sampled):
    with pytest.raises(FedwardError):
        sampled.run({}, ShowsOtherChunks)
    assert "FW-SECAGG-083" in sampled.codes()


class AsksForNonsense:
    """A site that answers challenges with what is no list of chunks, or too many."""

    def __init__(self, site, payload):
        self.name, self._site, self._payload = site.name, site, payload

    def answer(self, request: Request):
        return Reply(self._payload) if request.stage is Stage.CHALLENGE else self._site.answer(request)


@pytest.mark.parametrize("payload", [b"\x81\x61a", b"\x82\x00\x00"])
def test_a_hospital_that_asks_for_nonsense_harms_only_itself(monkeypatch, payload):
    monkeypatch.setattr(encoding, "CHUNK_BYTES", 256)
    monkeypatch.setattr(results, "AUDIT_BYTES", 1)
    federation = Federation(monkeypatch, rounds=1)
    name = "site-4"
    liar = federation.hospitals.pop(name)
    federation.hospitals[name] = AsksForNonsense(liar, payload)
    federation.run({})
    assert {(incident.site, incident.code) for incident in federation.coordinator.incidents} <= {
        (name, "FW-INTEGRITY-010"),
        (name, "FW-SECAGG-090"),
    }
    assert federation.survivors[1] == set(federation.hospitals)
    assert federation.survivors[2] == set(federation.hospitals) - {name}
