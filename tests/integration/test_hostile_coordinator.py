"""A coordinator that cheats above the protocol: false sums, other segments, other updates, prying into errors."""

from dataclasses import replace

import numpy as np
import pytest

from fedward.adapter import adapter_hash
from fedward.client.flower import TAKES_NO_PART, make_client_app
from fedward.client.hospital import Hospital
from fedward.client.models.adapter_model import build_model, get_vector, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.training import LocalTrainer
from fedward.errors import FedwardError, QuorumError
from fedward.messages import Reply, Request, Stage
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.privacy.ledger import Ledger, MemoryStore, Population
from fedward.privacy.secagg import encoding
from fedward.privacy.secagg.crypto import open_sealed, result_hash
from fedward.privacy.secagg.encoding import RingVector, decode
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.messages import Result, WitnessedResult
from fedward.privacy.secagg.server import SecAggServer
from fedward.run import Run
from fedward.server.flower import GridTransport
from fedward.server.history import Ended
from fedward.server.rounds import Coordinator
from fedward.simulations.federation import InProcessGrid
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites
from tests.codes import raises

pytestmark = pytest.mark.slow


class Federation:
    """Three hospitals without differential privacy, so that a round takes a moment."""

    def __init__(self, **privacy):
        scenario = load_scenario("no-dp")
        sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=60) for i in range(3)]
        scenario = scenario.model_copy(
            update={
                "data": scenario.data.model_copy(update={"site": sites}),
                "training": scenario.training.model_copy(update={"rounds": 3, "local_steps": 1}),
                "privacy": scenario.privacy.model_copy(update=privacy),
            }
        )
        self.files = resolve(scenario.model)
        self.run = resolve_run(make_plan(scenario, self.files), self.files.config())
        self.sites = make_sites(scenario, self.run.plan)
        self.model = build_model(self.run, self.files)
        self.agreement = agree(self.run, [site.name for site in self.sites])
        self.hospitals = [self.hospital(site) for site in self.sites]

    def hospital(self, site):
        encoded = self.encoded(site)
        return make_hospital(self.run, encoded, self.files, self.agreement, Randomness(), ledger=None, microbatch=None)

    def encoded(self, site):
        return EncodedSite.encode(site, self.run, self.files, self.model)

    def coordinator(self, kind=Coordinator):
        apps = {node: make_client_app(site) for node, site in enumerate(self.hospitals, start=2)}
        transport = GridTransport(InProcessGrid(apps))
        transport.discover([hospital.name for hospital in self.hospitals], seconds=5)
        return kind(
            run=self.run,
            name="run-1",
            adapter=get_vector(self.model),
            secagg=SecAggServer(
                identity=self.agreement.coordinator, roster=self.agreement.signed, journal=MemoryJournal()
            ),
            colluders=self.agreement.roster.colluders,
            transport=transport,
        )


def codes(coordinator):
    return {incident.code for incident in coordinator.incidents}


def test_an_honest_run_has_no_incident_and_one_adapter_everywhere():
    federation = Federation()
    coordinator = federation.coordinator()
    final = coordinator.run()
    assert coordinator.incidents == []
    assert all(np.array_equal(hospital.adapter, final) for hospital in federation.hospitals)


@pytest.mark.attack("coordinator", "publishes another sum in a federation that trains")
def test_a_false_sum_is_found_by_every_hospital():
    federation = Federation()
    coordinator = federation.coordinator()
    coordinator.join()
    coordinator.play(1)
    for ended in coordinator._history._ended:
        ended.ring_sum[8] ^= 1
    with pytest.raises(FedwardError):
        coordinator.play(2)
    assert len([i for i in coordinator.incidents if i.code.startswith("FW-SECAGG-") and i.round == 2]) >= 3


class ChoosesTheSum(Coordinator):
    """Publishes a sum of its own making, with a digest that fits it."""

    def _secure_sum(self, number):
        done, vectors, evidence = super()._secure_sum(number)
        if number == 1:
            done.sum.segment("delta")[:] += 1000
        return done, vectors, evidence


@pytest.mark.attack("coordinator", "publishes a sum of its choice with a digest that fits it")
def test_a_sum_of_the_coordinators_choice_is_refused():
    coordinator = Federation().coordinator(ChoosesTheSum)
    coordinator.join()
    coordinator.play(1)
    with pytest.raises(FedwardError):
        coordinator.play(2)
    assert "FW-SECAGG-082" in codes(coordinator)


class WithholdsEvidence(Coordinator):
    """Publishes sums without the masked vectors behind them."""

    def _secure_sum(self, number):
        done, _, evidence = super()._secure_sum(number)
        return done, {}, evidence


@pytest.mark.attack("coordinator", "publishes sums without what they were made of")
def test_a_sum_without_evidence_is_refused():
    coordinator = Federation().coordinator(WithholdsEvidence)
    coordinator.join()
    coordinator.play(1)
    with pytest.raises(FedwardError):
        coordinator.play(2)
    assert "FW-INTEGRITY-020" in codes(coordinator)


@pytest.mark.attack("coordinator", "publishes an adapter that the sum does not lead to")
def test_an_update_that_the_sum_does_not_lead_to_is_refused(monkeypatch):
    federation = Federation()
    coordinator = federation.coordinator()
    coordinator.join()
    monkeypatch.setattr(Run, "advance", lambda run, number, adapter, memory, *rest: (adapter + np.float32(0.5), memory))
    coordinator.play(1)  # no hospital updates its adapter before it is told the result, in the next round
    monkeypatch.undo()
    with pytest.raises(FedwardError):
        coordinator.play(2)
    assert "FW-SECAGG-084" in codes(coordinator)


@pytest.mark.attack("coordinator", "asks for statistics of training patients in a round that has none")
def test_statistics_of_training_patients_cannot_be_asked_for_in_a_round_that_has_none():
    federation = Federation(release_every=3)
    coordinator = federation.coordinator()
    coordinator.join()
    greedy = federation.run.vector_layout(3, n0=3, honest=2)
    coordinator._terms = lambda number: type(terms := Coordinator._terms(coordinator, number))(
        **{**terms.__dict__, "layout": greedy}
    )
    with pytest.raises(FedwardError):
        coordinator.play(1)
    assert "FW-POLICY-010" in codes(coordinator)


@pytest.mark.attack("coordinator", "reads names of patients out of errors")
def test_nothing_but_a_code_leaves_when_training_fails(monkeypatch):
    federation = Federation()

    def fail(self, accepted):
        raise RuntimeError("patient name: Planted Name, MRN 0012345")

    monkeypatch.setattr(Hospital, "_train_round", fail)
    coordinator = federation.coordinator()
    coordinator.join()
    seen = []
    exchange = coordinator._exchange._transport.exchange

    def listen(requests, *, seconds):
        for site, reply in exchange(requests, seconds=seconds):
            seen.append(reply)
            yield site, reply

    coordinator._exchange._transport.exchange = listen
    with pytest.raises(FedwardError):
        coordinator.play(1)
    assert seen
    assert all(reply == Reply(refusal=TAKES_NO_PART) for reply in seen)


@pytest.mark.attack("coordinator", "asks for what no hospital answers")
def test_an_unknown_stage_and_a_malformed_request_are_refused():
    (hospital, *_) = Federation().hospitals
    for request in (
        Request("dump", b""),
        Request(Stage.HELLO, b""),
        Request(Stage.MANIFEST, b"\x00"),
        Request(Stage.MANIFEST, b"\xa0"),
        Request(Stage.MASK, b""),
    ):
        with pytest.raises(FedwardError):
            hospital.answer(request)


class InventsARound(Coordinator):
    """After an honest first round it signs the result of a round that nobody took part in."""

    def invent(self):
        secagg = self._secagg
        witnessed = WitnessedResult.from_bytes(self._history._ended[-1].result)
        genuine = Result.from_bytes(open_sealed("result", witnessed.result, secagg._identity.public))
        layout = self._run.vector_layout(2, n0=3, honest=2)
        chosen = RingVector.zeros(layout)
        chosen.segment("delta")[:] = 1 << 20
        names = sorted(secagg.members)
        self.adapter, _ = self._run.advance(2, self.adapter, self._memory, decode(chosen), names)
        invented = replace(
            genuine,
            round=2,
            ctx=bytes(32),
            previous=result_hash(genuine.to_bytes()),
            sum_digest=encoding.MerkleTree(chosen.buffer.data).root,
            transcript=bytes(32),
            adapter_hash=genuine.next_adapter_hash,
            next_adapter_hash=adapter_hash(self.adapter, self._run.layout),
        )
        sealed = replace(witnessed, result=secagg._identity.seal("result", invented)).to_bytes()
        self._history.add(Ended(2, sealed, b"", {}, lambda: chosen.buffer), secagg.members)
        secagg._state = replace(
            secagg._state,
            round=2,
            head=result_hash(invented.to_bytes()),
            adapter_hash=invented.next_adapter_hash,
        )


@pytest.mark.attack("coordinator", "signs the result of a round that nobody took part in")
def test_the_result_of_a_round_that_never_happened_is_refused():
    coordinator = Federation().coordinator(InventsARound)
    coordinator.join()
    coordinator.play(1)
    coordinator.invent()
    with pytest.raises(FedwardError):
        coordinator.play(3)
    assert "FW-SECAGG-086" in codes(coordinator)


@pytest.mark.attack("coordinator", "has a training that failed repeated under the same charge")
def test_a_training_that_failed_halfway_is_not_repeated_under_the_same_charge(monkeypatch):
    federation = Federation()
    coordinator = federation.coordinator()
    coordinator.join()
    trained = []

    def fail(self, *arguments, **options):
        trained.append(1)
        raise RuntimeError("the machine was needed elsewhere")

    monkeypatch.setattr(LocalTrainer, "run", fail)
    with pytest.raises(FedwardError):
        coordinator.play(1)
    assert len(trained) == 3, "each hospital began once, although the coordinator asked several times"
    assert "FW-POLICY-013" in codes(coordinator)


@pytest.mark.attack("coordinator", "begins another run under one approval")
def test_another_run_cannot_be_slipped_under_an_approval():
    federation = Federation()
    coordinator = federation.coordinator()
    coordinator.join()
    coordinator.play(1)
    again = federation.coordinator()
    again._name = "run-2"
    again._secagg = SecAggServer(
        identity=federation.agreement.coordinator, roster=federation.agreement.signed, journal=MemoryJournal()
    )
    again._secagg._state = replace(again._secagg._state, epoch=5)
    with pytest.raises(QuorumError):
        again.join()
    assert "FW-SECAGG-025" in codes(again)
    assert len(again.incidents) == 3


@pytest.mark.attack(
    "coordinator", "plans a delta that is too large for a hospital, or private training without a ledger"
)
def test_a_private_hospital_needs_a_ledger_and_a_delta_that_fits_it():
    federation = Federation()
    site, plan = federation.sites[0], federation.run.plan
    private = plan.privacy.model_copy(
        update={"private": True, "noise_multiplier": 1.0, "evaluation_noise_multiplier": 9.0, "delta": 0.01}
    )
    federation.run = Run.resolve(plan.model_copy(update={"privacy": private}), federation.run.layout)
    with raises("FW-POLICY-012"):
        federation.hospital(site)
    ledger = Ledger(
        MemoryStore(), site=site.name, cap_epsilon=8.0, delta=0.01, population=Population(plan.split_salt, 0.4)
    )
    with raises("FW-POLICY-015"):
        make_hospital(
            federation.run,
            federation.encoded(site),
            federation.files,
            agree(federation.run, [s.name for s in federation.sites]),
            Randomness(),
            ledger=ledger,
            microbatch=None,
        )


@pytest.mark.attack("coordinator", "has a hospital train from an adapter that is not of the chain")
def test_a_hospital_whose_adapter_is_not_that_of_the_chain_trains_nothing():
    federation = Federation()
    coordinator = federation.coordinator()
    coordinator.join()
    coordinator.play(1)
    coordinator.hand_out()
    federation.hospitals[0]._follower.adapter = federation.hospitals[0].adapter + np.float32(1)
    with pytest.raises(FedwardError):
        coordinator.play(2)
    assert "FW-POLICY-014" in codes(coordinator)
