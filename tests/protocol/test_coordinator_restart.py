"""A coordinator that stops at any write goes on with its run, and hospitals notice nothing but the pause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.adapter import AdapterLayout, adapter_hash
from fedward.client.models.registry import resolve
from fedward.client.result_verification import Follower, Published, Snapshots
from fedward.errors import FedwardError, QuorumError
from fedward.messages import Reply, Request, Stage
from fedward.plan import Plan
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import load_scenario
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Envelope, Identity, RoundLostError, ShareRefused, mail_hash
from fedward.privacy.secagg.encoding import encode
from fedward.privacy.secagg.journal import FileJournal, MemoryJournal
from fedward.privacy.secagg.messages import PackageHead, SharePackage
from fedward.privacy.secagg.roster import LocalPolicy, Member, Roster, RunPolicy, approve, publish, verify_roster
from fedward.privacy.secagg.server import SecAggServer, ServerState
from fedward.run import Run, Schedule
from fedward.server.history import Archive
from fedward.server.rounds import Coordinator
from fedward.storage import FolderInUseError
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.weight", (2, 3)), ("layer.lora_B.weight", (2, 2))])
START = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)
NAMES = tuple(f"site-{i}" for i in range(3))


class PowerCutError(BaseException):
    """The machine stopped; nothing may catch it."""


class Disk(MemoryJournal):
    """A journal that outlives its process and stops it at a write, before or right after it reaches the medium."""

    writes = 0
    cut = -1
    after = False

    def save(self, state):
        self._write(lambda: MemoryJournal.save(self, state))

    def put(self, name, data):
        self._write(lambda: MemoryJournal.put(self, name, data))

    def keep_only(self, names):
        self._write(lambda: MemoryJournal.keep_only(self, names))

    def _write(self, write):
        Disk.writes += 1
        if Disk.writes != Disk.cut:
            write()
            return
        if Disk.after:
            write()
        raise PowerCutError


class Hospital:
    """A hospital whose training is arithmetic: everything else is real."""

    def __init__(self, name, run, identity, signed, policy, clock):
        self.name, self.run, self.identity = name, run, identity
        self.secagg = SecAggClient(
            identity=identity, roster=signed, policy=policy, journal=MemoryJournal(), clock=clock
        )
        snapshots = Snapshots(MemoryJournal(), LAYOUT)
        self.follower = Follower(run, verify_roster(signed), self.secagg, snapshots, START)
        self.trained = []

    def answer(self, request: Request) -> Reply:
        secagg, payload = self.secagg, request.payload
        match request.stage:
            case Stage.JOIN:
                return Reply(secagg.key_bundle(payload))
            case Stage.BUNDLES:
                return Reply(secagg.accept_bundles(payload))
            case Stage.SEAL:
                return Reply(secagg.accept_ciphertexts(payload))
            case Stage.MANIFEST:
                manifest, published = Published.of(request)
                self.follower.follow(published)
                accepted = secagg.accept_manifest(manifest)
                vector = self.train(accepted) if accepted.needs_training else None
                return Reply(secagg.contribute(vector, bytes(32)))
            case Stage.MASK:
                try:
                    upload = secagg.mask(payload)
                except ShareRefused as error:
                    return Reply(error.complaint, refusal=error.code)
                return Reply(upload.header, {"vector": upload.vector})
            case Stage.CONFIRM:
                return Reply(secagg.confirm(payload))
            case Stage.UNMASK:
                return Reply(secagg.unmask(payload))
        self.follower.follow(Published.of(request)[1])
        return Reply(adapter_hash(self.follower.adapter, LAYOUT))

    def train(self, accepted):
        number = accepted.manifest.round
        self.trained.append(number)
        values = {segment.name: np.zeros(segment.size, np.int64) for segment in accepted.layout.segments}
        if "delta" in values:
            step = self.run.plan.secure_sum.delta_step
            values["delta"] = np.full(LAYOUT.size, step * (number + int(self.name[-1])), np.float64)
        return encode(accepted.layout, values, np.zeros)


class World:
    """Hospitals, and the disks of a coordinator that can be started again; ``now`` is everybody's clock."""

    now = 1_000_000.0

    def __init__(self, plan: Plan, make_journal=Disk, names=NAMES):
        self.run = run = Run.resolve(plan, LAYOUT)
        self.identity = Identity.from_seed("coordinator", b"c" * 32)
        members = {name: Identity.from_seed(name, name.encode().ljust(32)) for name in names}
        pins = {"base_model_hash": b"m" * 32, "adapter_layout_hash": LAYOUT.hash(), "code_hash": b"k" * 32}
        roster = Roster(
            federation="test",
            coordinator=self.identity.public,
            members=tuple(Member(name, identity.public) for name, identity in members.items()),
            colluders=1,
            policy=RunPolicy(min_cohort=3, epoch_days=1, unsafe_two_party=False),
            **pins,
        )
        self.signed = publish(roster, self.identity)
        for identity in members.values():
            self.signed = approve(self.signed, identity)
        policy = LocalPolicy(
            plan_hash=plan.hash(),
            layout_hashes=frozenset(
                run.vector_layout(number, n0=n0, honest=2).hash()
                for number in range(1, run.final_round + 1)
                for n0 in range(3, len(names) + 1)
            ),
            max_rounds=run.final_round,
            min_cohort=3,
            initial_adapter_hash=adapter_hash(START, LAYOUT),
            **pins,
        )
        self.hospitals = {
            name: Hospital(name, run, identity, self.signed, policy, lambda: self.now)
            for name, identity in members.items()
        }
        self.journal, self.rounds = make_journal(), make_journal()
        self.finished = []

    def exchange(self, requests, *, seconds):
        for name, request in requests:
            try:
                reply = self.hospitals[name].answer(request)
            except FedwardError as error:
                reply = Reply(refusal=error.code)
            yield name, reply

    def coordinator(self):
        """A fresh process: all it knows is on its disks."""
        return Coordinator(
            run=self.run,
            name="run-1",
            adapter=START,
            secagg=SecAggServer(
                identity=self.identity, roster=self.signed, journal=self.journal, clock=lambda: self.now
            ),
            colluders=1,
            transport=self,
            on_round=lambda summary, done: self.finished.append(done.round),
            archive=Archive(self.rounds, "run-1"),
            clock=lambda: self.now,
        )


@pytest.fixture(scope="module")
def plan():
    scenario = load_scenario("no-dp")
    training = scenario.training.model_copy(update={"rounds": 1})
    return make_plan(scenario.model_copy(update={"training": training}), resolve(scenario.model))


@pytest.fixture(autouse=True)
def current():
    """No power cut is left over from the test before."""
    Disk.writes, Disk.cut = 0, -1


def finish(world):
    coordinator = world.coordinator()
    final = coordinator.run()
    assert coordinator.incidents == []
    for hospital in world.hospitals.values():
        assert hospital.follower.adapter.tobytes() == final.tobytes()
        assert hospital.trained == [1, 2], "every round is trained once"
    return final


@pytest.mark.parametrize("after", [False, True])
def test_a_coordinator_that_stops_at_any_write_ends_its_run_with_the_same_bits(plan, after):
    expected = finish(World(plan))
    writes, Disk.after = Disk.writes, after
    assert writes > 35
    assert not np.array_equal(expected, START)
    for cut in range(1, writes + 1):
        world = World(plan)
        Disk.writes, Disk.cut = 0, cut
        with pytest.raises(PowerCutError):
            world.coordinator().run()
        assert finish(world).tobytes() == expected.tobytes()


def test_a_coordinator_started_after_the_end_hands_out_the_result_again(plan):
    world = World(plan)
    expected = finish(world)
    world.finished.clear()
    assert finish(world).tobytes() == expected.tobytes()
    assert world.finished == []


def test_a_lost_or_altered_history_is_refused(plan, tmp_path):
    folders = iter(["protocol", "rounds"])
    world = World(plan, lambda: FileJournal(tmp_path / next(folders), b"k" * 32))
    coordinator = world.coordinator()
    coordinator.join()
    coordinator.play(1)
    kept, world.rounds = world.rounds, MemoryJournal()
    with raises("FW-INTEGRITY-024", match="lacks"):
        world.coordinator()
    world.rounds = kept
    assert world.coordinator().round == 1
    for file in (tmp_path / "rounds").iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        with raises("FW-INTEGRITY-024") as refusal:
            world.coordinator()
        assert (refusal.value.code, refusal.value.exit_code) == ("FW-INTEGRITY-024", 11)
        file.write_bytes(whole)
    assert world.coordinator().round == 1


def test_rounds_of_another_run_are_not_taken_up(plan):
    world = World(plan)
    finish(world)
    assert Archive(world.rounds, "run-1").round == 2
    assert Archive(world.rounds, "run-2").round == 0


def test_what_nobody_waits_for_is_erased(plan):
    world = World(plan)
    finish(world)
    names = {name.rpartition("-")[0] for name in world.rounds._vectors if name.startswith("vector-")}
    assert names == {"vector-2-site"}, "of earlier rounds, no masked vector"
    assert {name for name in world.rounds._vectors if name.startswith(("adapter", "memory"))} == {
        "adapter-2",
        "memory-2",
    }


FOUR = (*NAMES, "site-3")


@pytest.fixture(scope="module")
def longer(plan):
    """Three rounds of training and the one that scores."""
    scenario = load_scenario("no-dp")
    training = scenario.training.model_copy(update={"rounds": 3})
    return make_plan(scenario.model_copy(update={"training": training}), resolve(scenario.model))


def stage_of(world, name, stage, act):
    """Lets ``act`` answer in a hospital's place whenever it is asked for ``stage``; ``act`` gets its real answer."""
    hospital, answer = world.hospitals[name], world.hospitals[name].answer
    hospital.answer = lambda request: act(lambda: answer(request)) if request.stage is stage else answer(request)


def test_a_key_epoch_that_ends_during_a_run_is_renewed_before_the_next_round(longer):
    world = World(longer)
    coordinator = world.coordinator()
    finished = coordinator._on_round

    def a_day_passes(summary, done):
        finished(summary, done)
        world.now += 86_400

    coordinator._on_round = a_day_passes
    final = coordinator.run()
    assert coordinator.incidents == []
    assert world.finished == [1, 2, 3, 4]
    assert coordinator._secagg._state.epoch == 4
    for hospital in world.hospitals.values():
        assert hospital.trained == [1, 2, 3, 4]
        assert hospital.follower.adapter.tobytes() == final.tobytes()


@pytest.mark.parametrize(("stage", "rounds"), [(Stage.MANIFEST, [1, 3, 4]), (Stage.MASK, [1, 2, 3, 4])])
def test_a_run_that_rests_until_its_keys_have_ended_goes_on_with_new_ones(longer, stage, rounds):
    """A round that still waits for packages is given up, as no hospital accepts its manifest any more; others end."""
    world = World(longer)

    def stop(answer):
        reply = answer()
        if world.finished == [1]:
            raise PowerCutError
        return reply

    stage_of(world, NAMES[2], stage, stop)
    with pytest.raises(PowerCutError):
        world.coordinator().run()
    del world.hospitals[NAMES[2]].answer
    world.now += 2 * 86_400
    coordinator = world.coordinator()
    final = coordinator.run()
    assert world.finished == rounds
    for hospital in world.hospitals.values():
        assert hospital.trained == [1, 2, 3, 4]
        assert hospital.follower.adapter.tobytes() == final.tobytes()


@pytest.mark.parametrize("restart", [False, True])
def test_a_hospital_that_spoils_a_round_costs_the_run_that_round_and_no_more(longer, restart):
    """It deals shares of a secret that it did not commit to, which only unmasking can tell."""
    world = World(longer, names=FOUR)
    liar = world.hospitals["site-3"]

    def useless(answer):
        package = SharePackage.from_bytes(answer().payload)
        head = PackageHead.from_bytes(Envelope.from_bytes(package.head).body)
        sealed = liar.identity.seal("head", replace(head, b=b"x" * 32))
        live = replace(liar.secagg._state.live[0], head=sealed)
        liar.secagg._save(replace(liar.secagg._state, live=(live,)))
        return Reply(replace(package, head=sealed).to_bytes())

    stage_of(world, "site-3", Stage.MANIFEST, useless)
    coordinator = world.coordinator()
    if restart:
        coordinator._give_up = lambda error: (_ for _ in ()).throw(PowerCutError)
        with pytest.raises(PowerCutError):
            coordinator.run()
        coordinator = world.coordinator()
    final = coordinator.run()
    assert world.finished == [2, 3, 4]
    assert ("site-3", RoundLostError.code) in {(incident.site, incident.code) for incident in coordinator.incidents}
    for name in NAMES:
        assert world.hospitals[name].trained == [1, 2, 3, 4]
        assert world.hospitals[name].follower.adapter.tobytes() == final.tobytes()
    assert liar.trained == [1]


def test_a_hospital_that_others_complain_of_is_left_out_of_the_retry(longer):
    """Its mail to them cannot be opened; nothing was masked yet, so the round goes on without it."""
    world = World(longer, names=FOUR)
    liar = world.hospitals["site-3"]

    def garbled(answer):
        package = SharePackage.from_bytes(answer().payload)
        head = PackageHead.from_bytes(Envelope.from_bytes(package.head).body)
        mail = dict.fromkeys(package.mail, bytes(80))
        sealed = liar.identity.seal("head", replace(head, mail_hash=mail_hash(head.ctx, head.site, mail)))
        return Reply(SharePackage(sealed, package.envelope, mail).to_bytes())

    stage_of(world, "site-3", Stage.MANIFEST, garbled)
    coordinator = world.coordinator()
    coordinator.join()
    coordinator.play(1)
    complaints = [incident.site for incident in coordinator.incidents if incident.code == "FW-SECAGG-053"]
    assert complaints == list(NAMES)
    assert [summary.survivors for summary in coordinator.summaries] == [3]


def test_a_round_that_lacks_shares_waits_for_their_holders(plan):
    """Vectors are erased by then, so trying again would only lose the round."""
    world = World(plan)

    def silent(answer):
        raise FolderInUseError("The hospital is away.")

    stage_of(world, NAMES[2], Stage.UNMASK, silent)
    with pytest.raises(QuorumError):
        world.coordinator().run()
    del world.hospitals[NAMES[2]].answer
    assert finish(world) is not None
    assert world.finished == [1, 2]


@pytest.mark.parametrize(("lost", "following"), [(3, 5), (4, 5), (5, 7), (6, 7), (7, 9)])
def test_a_lost_sum_takes_the_rest_of_its_training_round_with_it(longer, lost, following):
    """The second sum of a training round means nothing without the first. Here the whole run has seven sums."""
    coordinator = World(longer).coordinator()
    coordinator._run = Schedule.of(longer.model_copy(update={"strategy": "fedask"}))
    assert coordinator._run.final_round == 7
    coordinator._finished = lost - 1
    coordinator._secagg._state = ServerState(run="run-1", round=lost)
    assert coordinator._next() == following
    coordinator._finished = lost
    assert coordinator._next() == lost + 1
