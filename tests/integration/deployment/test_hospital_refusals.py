"""A coordinator with the real keys that cheats: what a real daemon refuses it, over a real SuperLink and TLS."""

import contextlib
import io
import itertools
import json
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fedward.adapter import adapter_hash
from fedward.agreements.proposal import open_proposal, sign_proposal
from fedward.client.daemon.approvals import Approvals
from fedward.client.daemon.folders import SiteFolders
from fedward.client.daemon.service import Daemon
from fedward.client.daemon.settings import load_client_config
from fedward.client.models.registry import PACKAGED_FOLDER
from fedward.errors import FedwardError
from fedward.messages import encode
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Identity, genesis
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.messages import EpochInvite, Manifest
from fedward.privacy.secagg.roster import EpochSetup, LocalPolicy, minimum_threshold, publish, verify_roster
from fedward.run import Run
from fedward.server import superlink
from fedward.server.deployment.settings import Authority, ServerFolders
from fedward.server.job_files import read_vector
from fedward.server.superlink import ServerTls, SuperLink
from tests.codes import raises

pytestmark = pytest.mark.slow
SCENARIO = """
name = "refusals"
[training]
rounds = 1
local_steps = 2000
[adapter]
top_layers = 1
[privacy]
reply_seconds = 0.2
epsilon = 4.0
units_per_site = 60
sampling_rate = 0.1
release_every = 1
evaluate_every = 1
"""
RUN = "run-1"
EPOCHS = itertools.count(1)


class HostileCoordinator:
    """The coordinator's keys and its SuperLink in the hands of a test."""

    def __init__(self, federation, folder, nodes):
        self.folder, self.nodes, self._count = folder, nodes, 0
        self.identity = ServerFolders(federation.state).identity()
        self.stranger = Identity.from_seed("coordinator", bytes(32))
        self.signed = Path(federation.roster).read_bytes()
        self.roster = verify_roster(self.signed)

    def ask(self, site, leg, payload=b"", *, kind="train", array=b"", stype="numpy.ndarray", seconds=20):
        self._count += 1
        document = {
            "type": f"{kind}.{leg}" if leg else kind,
            "node": self.nodes[site],
            "payload": payload.hex(),
            "array": array.hex(),
            "stype": stype,
            "seconds": seconds,
        }
        path = self.folder / f"{self._count:04d}.ask"
        path.with_suffix(".new").write_text(json.dumps(document), encoding="utf-8")
        path.with_suffix(".new").replace(path)
        answer = path.with_suffix(".answer")
        deadline = time.monotonic() + 2 * seconds
        while not answer.exists():
            assert time.monotonic() < deadline, "the relay is gone"
            time.sleep(0.02)
        return json.loads(answer.read_text(encoding="utf-8"))

    def wait_for(self, site):
        while "refusal" not in self.ask(site, "hello"):
            time.sleep(0.2)

    def invite(self, run=RUN, *, identity=None, roster=None, epoch=None):
        message = EpochInvite(self.roster.hash if roster is None else roster, epoch or next(EPOCHS), run)
        return (identity or self.identity).seal("epoch-invite", message)


class Epoch:
    """A key epoch of one real hospital and two that the test plays, and manifests for it."""

    def __init__(self, federation, coordinator, site):
        self.coordinator, self.site, self.folder = coordinator, site, federation.plan
        (self.real,) = [hospital for hospital in federation.hospitals if hospital.name == site]
        folders = SiteFolders(self.real.state)
        settings = load_client_config(self.real.config)
        self.plan = Approvals(settings, folders, folders.identity(site)).get(RUN).verified.plan
        layout, self.start = read_vector(federation.plan / "start.safetensors")
        self.resolved = Run.resolve(self.plan, layout)
        self.epoch = next(EPOCHS)
        self.puppets = {h.name: self._puppet(h) for h in federation.hospitals if h.name != site}

    def _vector_layout(self):
        members = self.coordinator.roster.roster
        n0 = len(members.members)
        honest = minimum_threshold(n0, members.colluders) - members.colluders
        return self.resolved.vector_layout(1, n0=n0, honest=honest)

    def _initial(self):
        return adapter_hash(self.start, self.resolved.layout)

    def _puppet(self, hospital):
        roster = self.coordinator.roster.roster
        policy = LocalPolicy(
            base_model_hash=roster.base_model_hash,
            adapter_layout_hash=roster.adapter_layout_hash,
            code_hash=roster.code_hash,
            plan_hash=self.plan.hash(),
            layout_hashes=frozenset({self._vector_layout().hash()}),
            max_rounds=1,
            min_cohort=3,
            initial_adapter_hash=self._initial(),
            run=RUN,
        )
        identity = SiteFolders(hospital.state).identity(hospital.name)
        return SecAggClient(identity=identity, roster=self.coordinator.signed, policy=policy, journal=MemoryJournal())

    def join(self):
        """A complete epoch, in which nobody cheats."""
        setup = EpochSetup(self.coordinator.identity, self.coordinator.signed, RUN, self.epoch)
        self._leg(setup.invites(), "join", setup.add_bundle, SecAggClient.key_bundle)
        self._leg(setup.close_bundles(), "bundles", setup.add_ciphertexts, SecAggClient.accept_bundles)
        self._leg(setup.close_ciphertexts(), "seal", setup.add_ack, SecAggClient.accept_ciphertexts)
        setup.close()

    def _leg(self, requests, leg, take, play):
        for name, request in requests.items():
            if name == self.site:
                answer = self.coordinator.ask(name, leg, request)
                assert answer.get("refusal") == "", (leg, answer)
                take(name, bytes.fromhex(answer["payload"]))
            else:
                take(name, play(self.puppets[name], request))

    def manifest(self, *, identity=None, **changes):
        roster, layout = self.coordinator.roster.roster, self._vector_layout()
        names = tuple(sorted(roster.keys))
        honest = Manifest(
            roster_hash=self.coordinator.roster.hash,
            epoch=self.epoch,
            run=RUN,
            round=1,
            attempt=0,
            seq=1,
            first_cohort=names,
            cohort=names,
            threshold=minimum_threshold(len(names), roster.colluders),
            base_model_hash=roster.base_model_hash,
            adapter_hash=self._initial(),
            previous_result=genesis(RUN, self.plan.hash(), self._initial()),
            plan_hash=self.plan.hash(),
            code_hash=roster.code_hash,
            layout_hash=layout.hash(),
            segments=layout.to_value(),
            mechanism=self.plan.privacy.placement,
            deadline=int(time.time()) + 600,
        )
        sealed = (identity or self.coordinator.identity).seal("manifest", replace(honest, **changes))
        return encode({"manifest": sealed, "results": [], "evidence": {}, "paths": {}})


@pytest.fixture(scope="module")
def hostile(federation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    authority = Authority(ServerFolders(federation.state).keys)
    tls = ServerTls(authority.server_certificate, authority.server_key, client_ca=authority.certificate)
    source = Path(__file__).with_name("hostile_bundle.py").read_text().replace("@TRAP@", str(folder / "trap"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(superlink, "_BUNDLE", {**superlink._BUNDLE, "fedward_run/app.py": source.encode()})
        with (
            SuperLink(folder / "link", port=federation.port, tls=tls, start_seconds=120) as link,
            link.control() as own,
        ):
            keys = {h.name: SiteFolders(h.state).node_key().public_key() for h in federation.hospitals}
            nodes = {name: own.admit(key, name) for name, key in keys.items()}
            own.start(folder)
            made = HostileCoordinator(federation, folder, nodes)
            made.link, made.trap = link, folder / "trap"
            yield made


@pytest.fixture(scope="module")
def anna(federation, hostile):
    """A real daemon, as a process; it has accepted RUN, and denied run-denied."""
    hospital = federation.hospitals[0]
    hospital.accept(federation.signed)
    hospital.say("approve", "deny", federation.sign("run-denied"))
    hospital.start()
    hostile.wait_for("st-anna")
    return hospital


@pytest.fixture(scope="module")
def bede(federation, hostile):
    """A hospital whose daemon runs in this process; it has accepted RUN under a policy that was wider then."""
    hospital = federation.hospitals[1]
    hospital.accept(federation.signed)
    return hospital


class InProcess:
    """A real daemon in a thread, with another configuration; use as a context manager."""

    def __init__(self, config):
        self._settings, self._stop, self.errors = load_client_config(config), threading.Event(), []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self.join()

    def join(self):
        self._thread.join()

    def _run(self):
        try:
            Daemon(self._settings, self._stop, leave=lambda status: None).run()
        except FedwardError as error:
            self.errors.append(error)


@pytest.mark.parametrize("leg", ["manifest", "mask", "confirm", "unmask", "result", "challenge", "bundles", "seal"])
def test_a_leg_without_an_open_run(hostile, anna, leg):
    assert hostile.ask("st-anna", leg)["refusal"] == "FW-POLICY-309"


@pytest.mark.parametrize("run", ["run-2", "run-denied"])
def test_a_run_without_an_accepted_plan(hostile, anna, run):
    assert hostile.ask("st-anna", "join", hostile.invite(run))["refusal"] == "FW-POLICY-308"


@pytest.mark.parametrize("run", ["../../etc/passwd", "run-1/../run-1", "..", "RUN-1", "run-1\0", ""])
def test_a_run_whose_name_is_a_path(hostile, anna, run):
    value = {"roster_hash": hostile.roster.hash, "epoch": 1000, "run": run}
    sealed = hostile.identity.seal("epoch-invite", SimpleNamespace(to_bytes=lambda: encode(value)))
    assert hostile.ask("st-anna", "join", sealed)["refusal"] == "FW-INTEGRITY-010"


def test_an_invitation_of_another_coordinator(hostile, anna):
    forged = hostile.invite(identity=hostile.stranger)
    assert hostile.ask("st-anna", "join", forged)["refusal"] == "FW-SECAGG-002"


def test_an_invitation_under_a_roster_that_was_not_approved(hostile, anna):
    other = publish(replace(hostile.roster.roster, federation="other"), hostile.identity)
    sealed = hostile.invite(roster=verify_roster(other).hash)
    assert hostile.ask("st-anna", "join", sealed)["refusal"] == "FW-SECAGG-022"


@pytest.mark.parametrize("payload", [b"", b"\xff" * 100, bytes(3 * 1024**2)], ids=["empty", "garbage", "large"])
def test_a_message_that_is_none(hostile, anna, payload):
    assert hostile.ask("st-anna", "join", payload)["refusal"] == "FW-SECAGG-002"


def pickled():
    """An array of numpy's that holds a pickle: loading it without care would run what is in it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Path], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("stype", ["numpy.ndarray", "torch.save", "pickle"])
def test_arrays_in_an_unsafe_format(hostile, anna, stype):
    answer = hostile.ask("st-anna", "join", hostile.invite(), array=pickled(), stype=stype)
    assert answer == {"payload": "", "refusal": "FW-INTEGRITY-010"}


@pytest.mark.parametrize(
    ("kind", "leg"), [("query", ""), ("train", ""), ("evaluate", "mask"), ("train", "get_weights"), ("query", "system")]
)
def test_code_and_requests_that_are_no_leg(hostile, anna, eventually, kind, leg):
    """The run brings a bundle with a ClientApp of its own for these; the hospital neither fetches nor asks it."""
    before = anna.daemon.text().count("FW-POLICY-201")
    answer = hostile.ask("st-anna", leg, kind=kind, seconds=1)
    # The hospital may have thrown the message away before all of it was sent, which is the sender's error.
    assert set(answer) <= {"error"}
    eventually(lambda: anna.daemon.text().count("FW-POLICY-201") == before + 1)
    assert not hostile.trap.exists()
    assert "get-fab" not in hostile.link.log_file.read_text(errors="replace")


def test_a_plan_that_writes_on_the_terminal_of_whoever_decides(federation, hostile, anna, tmp_path):
    """Escape sequences in a plan's own text could show another epsilon than the one that is asked for."""
    signed = open_proposal(federation.signed.read_bytes(), hostile.identity.public)
    plan = signed.plan.model_copy(update={"base_model": "tiny\x1b[2K\r\n  this run: epsilon 0.001"})
    terms = replace(signed.proposal.terms, plan=plan.model_dump_json().encode(), plan_hash=plan.hash())
    (tmp_path / "plan").write_bytes(sign_proposal(replace(signed.proposal, run="run-t", terms=terms), hostile.identity))
    with raises("FW-POLICY-320") as refused:
        anna.say("approve", "show", tmp_path / "plan")
    assert "\x1b" not in refused.value.message
    assert "epsilon" not in refused.value.message


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"max_epsilon_per_run": 1.0}, "FW-POLICY-304"),
        ({"allowed_base_models": "[]"}, "FW-POLICY-302"),
        ({"delta": 1e-9}, "FW-POLICY-305"),
        ({"max_plan_days": 1}, "FW-POLICY-301"),
        ({"min_units": 5000}, "FW-POLICY-022"),
    ],
)
def test_an_accepted_plan_that_is_laxer_than_the_policy_of_today(federation, hostile, bede, limit, code):
    with InProcess(bede.with_policy(**limit)):
        hostile.wait_for("st-bede")
        assert hostile.ask("st-bede", "join", hostile.invite())["refusal"] == code


@pytest.mark.parametrize(
    ("files", "code"), [({"pytorch_model.bin": b"PK"}, "FW-MODEL-001"), ({"model.safetensors": b"x"}, "FW-MODEL-020")]
)
def test_base_models_in_another_format_or_with_another_content(hostile, bede, tmp_path, monkeypatch, files, code):
    folder = tmp_path / "tiny-clinical"
    shutil.copytree(PACKAGED_FOLDER / "tiny_clinical", folder)
    (folder / "model.safetensors").unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path))
    with InProcess(bede.config):
        hostile.wait_for("st-bede")
        assert hostile.ask("st-bede", "join", hostile.invite())["refusal"] == code


def test_a_daemon_does_not_start_with_a_roster_that_was_not_approved_here_or_is_too_small(hostile, bede):
    with InProcess(bede.with_policy(min_cohort=4)) as daemon:
        daemon.join()
    assert [error.code for error in daemon.errors] == ["FW-POLICY-307"]
    roster = SiteFolders(bede.state).roster
    approved = roster.read_bytes()
    roster.write_bytes(publish(hostile.roster.roster, hostile.identity))
    with InProcess(bede.config) as daemon:
        daemon.join()
    roster.write_bytes(approved)
    assert [error.code for error in daemon.errors] == ["FW-SECAGG-011"]


@pytest.fixture(scope="module")
def run(federation, hostile, anna):
    made = Epoch(federation, hostile, "st-anna")
    made.join()
    return made


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cohort": ("st-anna", "st-bede"), "first_cohort": ("st-anna", "st-bede"), "threshold": 2}, "FW-SECAGG-033"),
        ({"threshold": 1}, "FW-SECAGG-033"),
        ({"base_model_hash": bytes(32)}, "FW-SECAGG-035"),
        ({"layout_hash": bytes(32)}, "FW-SECAGG-036"),
        ({"plan_hash": bytes(32)}, "FW-SECAGG-037"),
        ({"round": 99}, "FW-SECAGG-037"),
        ({"code_hash": bytes(32)}, "FW-SECAGG-038"),
        ({"deadline": 1}, "FW-SECAGG-039"),
        ({"adapter_hash": bytes(32)}, "FW-SECAGG-044"),
        ({"roster_hash": bytes(32)}, "FW-SECAGG-022"),
        ({"run": "run-2"}, "FW-SECAGG-022"),
    ],
)
def test_a_manifest_that_asks_for_something_else(hostile, run, changes, code):
    assert hostile.ask("st-anna", "manifest", run.manifest(**changes))["refusal"] == code


def test_a_manifest_of_another_coordinator(hostile, run):
    forged = run.manifest(identity=hostile.stranger)
    assert hostile.ask("st-anna", "manifest", forged)["refusal"] == "FW-SECAGG-030"


def test_an_epoch_that_is_not_newer(hostile, run):
    assert hostile.ask("st-anna", "join", hostile.invite(epoch=1))["refusal"] == "FW-SECAGG-020"


def charged(hospital, command):
    (ledger,) = json.loads(command("client", "ledger", "show", "--state", hospital.state, "--json"))["ledgers"]
    return ledger["runs"]


def test_nothing_was_charged_for_any_of_it(run, command):
    assert charged(run.real, command) == []


def test_stop_ends_a_training_round_without_a_network(hostile, run, command, eventually):
    """The honest manifest at last: the refusals before it were not for want of anything else."""

    def ask_in_vain():
        with contextlib.suppress(AssertionError):  # nobody is left to answer
            hostile.ask("st-anna", "manifest", run.manifest())

    threading.Thread(target=ask_in_vain, daemon=True).start()
    eventually(lambda: json.loads(run.real.say("status", "--json"))["leg"] == "training")
    hostile.link.stop()
    run.real.say("stop")
    # The command kills a daemon that has not ended after five seconds; then the status would be that of the signal.
    assert run.real.daemon.process.wait() == 14
    assert [entry["run"] for entry in charged(run.real, command)] == [RUN], "what had begun is charged"


def test_no_log_holds_a_traceback_and_every_refusal_its_code(hostile, run):
    log = run.real.daemon.text()
    assert "Traceback" not in log
    assert "Traceback" not in hostile.link.log_file.read_text(errors="replace")
    for line in (line for line in log.splitlines() if "refused" in line or "dropped" in line):
        assert re.search(r"FW(-[A-Z]+)?-\d{3}$", line), line
