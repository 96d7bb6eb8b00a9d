"""Processes that are killed between rounds, and go on from their state folder with the very same bits."""

import multiprocessing
import shutil

import numpy as np
import pytest

from fedward.adapter import adapter_hash
from fedward.client.models.adapter_model import build_model, get_vector, resolve_run
from fedward.client.models.registry import resolve
from fedward.errors import FedwardError
from fedward.messages import Reply, Stage
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.privacy.secagg.journal import FileJournal, MemoryJournal
from fedward.privacy.secagg.server import SecAggServer
from fedward.server.rounds import Coordinator
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites
from fedward.storage import FolderInUseError

pytestmark = pytest.mark.slow
FORK = multiprocessing.get_context("fork")
KEY = b"k" * 32
VICTIM = "site-1"


class Federation:
    """What all parties have agreed on; ``hospital`` makes one with its state in a folder."""

    def __init__(self, folder, strategy):
        scenario = load_scenario("no-dp").model_copy(update={"strategy": strategy})
        sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=60) for i in range(3)]
        scenario = scenario.model_copy(
            update={
                "data": scenario.data.model_copy(update={"site": sites}),
                "training": scenario.training.model_copy(update={"rounds": 3, "local_steps": 1}),
            }
        )
        self.folder, self.files = folder, resolve(scenario.model)
        self.run = resolve_run(make_plan(scenario, self.files), self.files.config())
        self.model = build_model(self.run, self.files)
        sites = make_sites(scenario, self.run.plan)
        self.sites = {s.name: EncodedSite.encode(s, self.run, self.files, self.model) for s in sites}
        self.agreement = agree(self.run, list(self.sites))

    def hospital(self, name):
        journal = FileJournal(self.folder / name, KEY)
        return make_hospital(
            self.run,
            self.sites[name],
            self.files,
            self.agreement,
            Randomness(),
            ledger=None,
            microbatch=None,
            journal=journal,
        )

    def coordinator(self, transport):
        return Coordinator(
            run=self.run,
            name="run-1",
            adapter=get_vector(self.model),
            secagg=SecAggServer(
                identity=self.agreement.coordinator, roster=self.agreement.signed, journal=MemoryJournal()
            ),
            colluders=self.agreement.roster.colluders,
            transport=transport,
        )


class Process:
    """A hospital in a process of its own."""

    def __init__(self, federation, name):
        self._pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=serve, args=(federation, name, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def answer(self, request):
        self._pipe.send(request)
        return self._pipe.recv()

    def kill(self):
        self.process.kill()
        self.process.join()


def serve(federation, name, pipe):
    hospital = federation.hospital(name)
    while True:
        pipe.send(answer(hospital, pipe.recv()))


def answer(hospital, request):
    try:
        return hospital.answer(request)
    except FedwardError as error:
        return Reply(refusal=error.code)


class Wires:
    """A transport to hospitals in this process and to one in another."""

    def __init__(self, federation):
        self.sites = {name: federation.hospital(name) for name in federation.sites if name != VICTIM}
        self.sites[VICTIM] = Process(federation, VICTIM)

    def exchange(self, requests, *, seconds):
        for name, request in requests:
            site = self.sites[name]
            yield name, site.answer(request) if isinstance(site, Process) else answer(site, request)


@pytest.fixture
def strategy():
    return "ffa"


@pytest.fixture
def federation(tmp_path, strategy):
    return Federation(tmp_path, strategy)


@pytest.fixture
def wires(federation):
    made = Wires(federation)
    yield made
    made.sites[VICTIM].kill()


KEEP = ["ffa", "scaffold", "fedsa", "fedask"]
"""Strategies whose hospitals keep nothing, a variate, tensors, and a training whose second sum is to come."""


@pytest.mark.parametrize("strategy", KEEP)
def test_a_hospital_killed_between_rounds_goes_on_with_identical_bits(federation, wires):
    coordinator = federation.coordinator(wires)
    coordinator.join()
    coordinator.play(1)
    coordinator.play(2)
    with pytest.raises(FolderInUseError):
        federation.hospital(VICTIM)
    wires.sites[VICTIM].kill()
    wires.sites[VICTIM] = Process(federation, VICTIM)
    coordinator.play(3)
    wires.sites[VICTIM].kill()
    wires.sites[VICTIM] = Process(federation, VICTIM)
    coordinator.play(4)
    coordinator.hand_out()
    assert coordinator.incidents == []
    wires.sites[VICTIM].kill()
    restarted = federation.hospital(VICTIM)
    restarted._follower.resume()
    restarted.learner.side.ready("run-1", restarted._follower.round)  # raises if what it kept for itself were lost
    assert restarted.adapter.tobytes() == coordinator.adapter.tobytes()
    assert adapter_hash(restarted.adapter, federation.run.layout) == restarted.secagg.head.adapter_hash
    assert not np.array_equal(coordinator.adapter, get_vector(federation.model))


@pytest.mark.parametrize("strategy", ["fedask"])
def test_a_hospital_killed_with_its_second_vector_stored_takes_part_in_the_retry(federation, wires):
    """Another hospital does not answer, so the second sum is tried again, over the same hospitals."""
    coordinator, exchange, happened = federation.coordinator(wires), wires.exchange, []

    def disturbed(requests, *, seconds):
        for name, reply in exchange(requests, seconds=seconds):
            live = coordinator._secagg.live
            at = None if live is None else (live.manifest.round, live.manifest.attempt, live.stage)
            if at == (2, 0, Stage.MANIFEST) and name == VICTIM:
                wires.sites[VICTIM].kill()
                wires.sites[VICTIM] = Process(federation, VICTIM)
                happened.append("killed")
            if at == (2, 0, Stage.MASK) and name != VICTIM and "silent" not in happened:
                happened.append("silent")
                continue
            yield name, reply

    wires.exchange = disturbed
    coordinator.join()
    coordinator.play(1)
    coordinator.play(2)
    assert sorted(happened) == ["killed", "silent"]
    assert [summary.survivors for summary in coordinator.summaries] == [3, 3]
    assert coordinator.incidents == []


@pytest.mark.parametrize("damage", ["erased", "of the round before"])
def test_a_hospital_whose_adapter_is_lost_says_so_and_takes_no_other(federation, wires, tmp_path, damage):
    coordinator = federation.coordinator(wires)
    coordinator.join()
    coordinator.play(1)
    coordinator.play(2)
    (first,) = (tmp_path / VICTIM / "adapters").glob("vector-*")
    kept = first.read_bytes()
    coordinator.play(3)
    wires.sites[VICTIM].kill()
    if damage == "erased":
        shutil.rmtree(tmp_path / VICTIM / "adapters")
    else:
        (second,) = (tmp_path / VICTIM / "adapters").glob("vector-*")
        assert second != first
        second.write_bytes(kept)
    wires.sites[VICTIM] = Process(federation, VICTIM)
    with pytest.raises(FedwardError):
        coordinator.play(4)
    assert (VICTIM, "FW-INTEGRITY-023") in {(incident.site, incident.code) for incident in coordinator.incidents}
