"""State folders that release 0.1.0 left in the middle of a run, in the hands of the present release.

``scripts/release_states`` makes the archives of ``tests/fixtures/states`` with a release's own commands. What outlives
a run goes on: keys, hospitals, settings and, above all, the ledger. The run itself was begun with another core, so both
sides refuse it before anything is charged, and leave it as it was for the release that can finish it.
"""

import hashlib
import json
import re
import subprocess
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedward.agreements.code import core_hash
from fedward.client.daemon.folders import HOSPITAL, SITE_RUN, SiteFolders, pinned_coordinator, written
from fedward.client.daemon.service import ApprovedSite, Daemon, open_site_ledger
from fedward.client.daemon.settings import load_client_config
from fedward.messages import Request, Stage
from fedward.plan import Plan
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, verify
from fedward.privacy.secagg.roster import verify_roster
from fedward.schema import SCHEMA_FILE, Schema
from fedward.server import job
from fedward.server.deployment.doctor import examine
from fedward.server.deployment.records import COORDINATOR_STATE, RUN, RunRecord, Runs, Sites
from fedward.server.deployment.service import Service
from fedward.server.deployment.settings import ServerFolders, load_server_config
from fedward.server.superlink import RunState
from tests.codes import raises

STATES = Path(__file__).parents[1] / "fixtures" / "states"
SITES = ("st-anna", "st-bede", "st-clare")


@pytest.fixture(params=sorted(path.name for path in STATES.glob("*.tar.gz")))
def left(request, tmp_path):
    """A federation as a release left it: folders and settings of both sides."""
    with tarfile.open(STATES / request.param) as archive:
        archive.extractall(tmp_path, filter="fully_trusted")  # noqa: S202 - this repository's own; modes of keys count
    for path in tmp_path.rglob("*"):
        if path.is_file() and b"@FOLDER@" in (content := path.read_bytes()):
            path.write_bytes(content.replace(b"@FOLDER@", str(tmp_path).encode()))
    config = load_client_config(tmp_path / "st-anna" / "client.toml")
    server = load_server_config(tmp_path / "coordinator" / "server.toml")
    return SimpleNamespace(
        root=tmp_path,
        config=config,
        site=SiteFolders(config.folder),
        server=server,
        coordinator=ServerFolders(server.folder),
        said=json.loads((tmp_path / "st-anna" / "ledger.json").read_bytes())["ledgers"][0],
    )


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_archives_hold_a_run_that_has_not_ended(left):
    record = json.loads((left.coordinator.runs / "demo-1" / "run.json").read_bytes())
    progress = json.loads((left.coordinator.runs / "demo-1" / "progress.json").read_bytes())
    assert record["state"] == "running" and 0 < progress["round"] < progress["rounds"]


def test_a_ledger_goes_on_with_all_that_was_spent(left):
    book = verify(FileStore(left.site.ledger))
    assert book.spent() == pytest.approx(left.said["spent_epsilon"], rel=1e-9)
    assert book.heads[-1].hex() == left.said["head"]
    plan = Plan(name="icu", base_model_sha256="ab" * 32)
    ledger = open_site_ledger(left.config, FileStore(left.site.ledger), plan, train=(), evaluation=())
    steps = [Event("dpsgd", noise_multiplier=4.0, sampling_rate=0.2, steps=4)]
    ledger.reserve(run="icu-2", plan_hash=bytes(32), round_number=1, training=steps)
    assert verify(FileStore(left.site.ledger)).spent() > left.said["spent_epsilon"]
    with raises("FW-BUDGET-010"):
        loud = [Event("dpsgd", noise_multiplier=0.5, sampling_rate=0.9, steps=400)]
        ledger.reserve(run="icu-3", plan_hash=bytes(32), round_number=1, training=loud)


def test_a_hospital_keeps_its_keys_and_settings(left):
    assert pinned_coordinator(left.site).coordinator == left.coordinator.identity().public
    for name in SITES:
        folders = SiteFolders(left.root / name / "state")
        record = Sites(left.coordinator).get(name)
        assert folders.identity(name).public.hex() == record.identity
        folders.node_key(), folders.journal_key()
    assert left.config.policy.min_units == 20, "its old name is read"


def test_a_hospital_refuses_the_run_before_anything_is_charged(left):
    """The approval was given to another reader's code, in another form; a person has to decide again."""
    before = contents(left.site.root)
    site = ApprovedSite(left.config, left.site, threading.Event())
    with raises("FW-VERSION-301", "FW-VERSION-306"):
        site.warm()
    with raises("FW-VERSION-301", "FW-VERSION-306"):
        site.answer(Request(Stage.MANIFEST, b""))
    assert contents(left.site.root) == before


def test_a_hospitals_daemon_carries_the_folder_over_and_serves(left, monkeypatch):
    before, served = contents(left.site.root), []
    daemon = Daemon(left.config, threading.Event())
    monkeypatch.setattr(daemon, "_serve", lambda status: served.append(HOSPITAL.of(left.site.root)))
    daemon.run()
    after = contents(left.site.root)
    assert served == [HOSPITAL.version]
    assert {name for name in after if after[name] != before.get(name)} == {SCHEMA_FILE, "status.json"}
    assert before.keys() <= after.keys(), "nothing is gone: the release before can go on with it"


class Control:
    """A SuperLink whose ServerApp is this process."""

    def __init__(self):
        self.end = None

    def start(self, path):
        try:
            job.run_federation(None, path)  # without a way to any hospital
        except Exception as error:
            self.end = ("failed", f"The job ended with {error.code} and exit status {error.exit_code}.")
        return 1

    def state(self, run):
        return RunState("finished", *self.end)

    def abort(self, run):
        pass


def test_a_coordinator_takes_the_run_up_and_waits_for_the_release_that_began_it(left):
    journal = left.coordinator.runs / "demo-1" / "journal"
    before = contents(journal)
    service, control, runs = Service(left.server, threading.Event()), Control(), Runs(left.coordinator)
    COORDINATOR_STATE.settle(left.coordinator.root)
    service._reconcile()
    for _ in range(2):
        service._advance(control)
    run = runs.get("demo-1")
    assert (run.state, run.code) == ("waiting", "FW-VERSION-303")
    assert contents(journal) == before, "the journal is as the other release left it"
    assert {finding.name: finding.level for finding in examine(left.server)}["runs"] == "warn"


def test_carrying_over_keeps_what_it_replaces(left):
    folder = left.coordinator.runs / "demo-1"
    before = contents(folder)
    COORDINATOR_STATE.settle(left.coordinator.root)
    COORDINATOR_STATE.settle(left.coordinator.root)
    after = contents(folder)
    assert COORDINATOR_STATE.of(left.coordinator.root) == 1
    assert json.loads((folder / "job.json").read_bytes())["signed"] == str(folder / "plan.fedward")
    for name in ("run.json", "job.json"):
        assert after[f"{name}.schema-0"] == before[name], "for the way back"


def test_the_way_back_of_the_guide_leaves_what_the_release_had_left(left):
    before = contents(left.coordinator.root)
    COORDINATOR_STATE.settle(left.coordinator.root)
    assert contents(left.coordinator.root) != before
    guide = (Path(__file__).parents[2] / "docs" / "coordinator.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`cd state && (find [^`]+)`", guide)
    subprocess.run(["sh", "-c", command], cwd=left.coordinator.root, check=True)
    assert contents(left.coordinator.root) == before


def test_hospitals_are_on_the_next_roster(left):
    names = [site.name for site in Sites(left.coordinator).all() if site.state == "admitted"]
    assert tuple(names) == SITES
    pinned = verify_roster((left.coordinator.runs / "demo-1" / "roster.cbor").read_bytes()).roster
    assert pinned.code_hash != core_hash()


def newer(schema):
    return Schema(schema.kind, steps=[lambda folder: None] * (schema.version + 1))


def test_folders_of_a_later_release_are_refused_before_anything_is_touched(left, monkeypatch):
    newer(HOSPITAL).settle(left.site.root)
    newer(COORDINATOR_STATE).settle(left.coordinator.root)
    before = contents(left.root)
    daemon = Daemon(left.config, threading.Event())
    monkeypatch.setattr(daemon, "_serve", lambda status: pytest.fail("it served"))
    for start in (daemon.run, Service(left.server, threading.Event()).run):
        with raises("FW-VERSION-307"):
            start()
    assert contents(left.root) == before


def test_a_run_of_a_later_release_is_refused_before_its_journal_is_read(left, monkeypatch):
    newer(SITE_RUN).settle(left.site.run("demo-1"))
    site = ApprovedSite(left.config, left.site, threading.Event())
    approved = SimpleNamespace(plan=Plan(name="icu", base_model_sha256="ab" * 32), proposal=SimpleNamespace(made=0))
    monkeypatch.setattr(site.approvals, "require", lambda run: approved)
    monkeypatch.setattr("fedward.client.daemon.service.check_proposal", lambda *arguments, **named: None)
    monkeypatch.setattr(site, "_build", lambda *arguments: pytest.fail("it was opened"))
    before = contents(left.site.root)
    with raises("FW-VERSION-307"):
        site._serve("demo-1")
    assert contents(left.site.root) == before


def test_a_new_run_says_its_schema(left):
    folder = left.coordinator.runs / ".draft"
    folder.mkdir()
    RUN.settle(folder)
    assert RUN.of(folder) == RUN.version == 1
    assert RunRecord.model_fields.keys() >= {"expires", "waits_for"}
    assert written(left.config, left.site)
