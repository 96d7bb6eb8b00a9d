import json
import threading
from types import SimpleNamespace

import pytest

from fedward.privacy.secagg.crypto import fingerprint
from fedward.server.deployment.pulse import Sign
from fedward.server.deployment.records import RunRecord, Runs
from fedward.server.deployment.service import Service
from fedward.server.superlink import RunState
from fedward.storage import FolderInUseError, FolderLock, replace_private
from tests.codes import raises


class Control:
    """A SuperLink that notes what it is told and ends runs as the test says."""

    def __init__(self):
        self.admitted, self.revoked, self.started, self.aborted = {}, [], [], []
        self.end = None

    def admit(self, key, name):
        self.admitted[name] = len(self.admitted) + 1
        return self.admitted[name]

    def revoke(self, node):
        self.revoked.append(node)

    def start(self, job):
        self.started.append(job)
        return len(self.started)

    def state(self, run):
        return RunState("running", "", "") if self.end is None else RunState("finished", *self.end)

    def abort(self, run):
        self.aborted.append(run)


@pytest.fixture
def control():
    return Control()


@pytest.fixture
def service(coordinator):
    return Service(coordinator.config, threading.Event())


@pytest.fixture
def run(coordinator):
    folder = coordinator.folders.runs / "icu-1"
    folder.mkdir()
    record = RunRecord(name="icu-1", state="queued", plan_hash="", sites=["st-anna"], submitted=1)
    replace_private(folder / "run.json", record.model_dump_json().encode())
    runs = Runs(coordinator.folders)
    return lambda: runs.get("icu-1")


def enrol(coordinator, name):
    applicant = coordinator.applicant(name)
    coordinator.accept(applicant.request(coordinator.sites.invite(name, hours=1)))


def test_the_superlink_follows_the_site_files(coordinator, service, control):
    enrol(coordinator, "st-anna")
    service._follow_sites(control)
    enrol(coordinator, "st-bede")
    service._follow_sites(control)
    assert control.admitted == {"st-anna": 1, "st-bede": 2}
    coordinator.sites.revoke("st-anna")
    assert service._sync_now({}) == {"connected": ["st-anna", "st-bede"]}
    service._follow_sites(control)
    service._follow_sites(control)
    assert control.revoked == [1]
    assert service._sync_now({}) == {"connected": ["st-bede"]}


def test_a_run_is_started_followed_and_ended(service, control, run):
    service._advance(control)
    service._advance(control)
    assert (run().state, run().flower_run, len(control.started)) == ("running", 1, 1)
    control.end = ("completed", "")
    service._advance(control)
    service._advance(control)
    assert (run().state, len(control.started)) == ("completed", 1)


def test_a_failed_run_keeps_its_code(service, control, run):
    service._advance(control)
    control.end = ("failed", "The job ended with FW-RUN-010 and exit status 9.")
    service._advance(control)
    assert (run().state, run().code, run().exit_status) == ("failed", "FW-RUN-010", 9)


@pytest.mark.parametrize("code", ["FW-RUN-002", "FW-TIME-002", "FW-NET-213", "FW-RESOURCE-301"])
def test_absence_makes_a_run_wait_and_go_on(service, control, run, code):
    service._advance(control)
    control.end = ("failed", f"The job ended with {code} and exit status 10.")
    service._advance(control)
    assert (run().state, run().code, len(control.started)) == ("waiting", code, 1)
    service._advance(control)
    assert len(control.started) == 1, "not before its pause has passed"
    due = run().again
    service._runs._clock = lambda: due
    control.end = None
    service._advance(control)
    assert (run().state, run().flower_run, run().restarts) == ("running", 2, 0)
    control.end = ("completed", "")
    service._advance(control)
    assert run().state == "completed"


def test_a_run_waits_no_longer_than_its_plan_is_valid(service, control, run):
    service._advance(control)
    control.end = ("failed", "The job ended with FW-RUN-002 and exit status 10.")
    service._advance(control)
    service._runs._save(run(), expires=1)
    service._advance(control)
    assert (run().state, run().code, run().exit_status) == ("failed", "FW-TIME-003", 15)


def test_a_run_whose_process_is_lost_is_taken_up_again_at_once_and_then_in_between_pauses(service, control, run):
    service._advance(control)
    control.end = ("failed", "")
    most = service._config.runs.max_restarts
    for number in range(1, most + 1):
        service._advance(control)
        assert (run().state, run().restarts) == ("queued", number)
        service._advance(control)
    service._advance(control)
    assert (run().state, run().code, run().restarts) == ("waiting", "FW-RUN-213", most + 1)


def test_a_run_that_met_its_own_orphan_gets_a_new_superlink_which_ends_all_processes(service, control, run):
    service._advance(control)
    control.end = ("failed", "The job ended with FW-SECAGG-094 and exit status 13.")
    with raises("FW-RUN-212"):
        service._advance(control)
    service._leave(control)
    service._reconcile()
    assert (run().state, run().restarts) == ("queued", 1)


def test_a_run_without_a_process_is_not_left_so(service, control, run, monkeypatch):
    now = [0.0]
    service._clock = lambda: now[0]
    monkeypatch.setattr(control, "state", lambda flower_run: RunState("pending", "", ""))
    service._advance(control)
    now[0] = 59.0
    service._advance(control)
    now[0] = 61.0
    with raises("FW-RUN-212"):
        service._advance(control)
    service._reconcile()
    service._advance(control)
    now[0] = 180.0
    service._advance(control)
    now[0] = 182.0
    with raises("FW-RUN-212"):
        service._advance(control)


@pytest.mark.parametrize("sign", [Sign.GONE, Sign.SILENT])
def test_a_process_that_flower_believes_in_is_watched_all_the_same(service, control, run, sign):
    """Flower itself notices a process that was killed after two minutes, and none that hangs."""
    service._advance(control)
    service._pulse = SimpleNamespace(look=lambda: sign)
    if sign is Sign.SILENT:  # its SuperLink is ended with all that it has started
        with raises("FW-RUN-212"):
            service._advance(control)
        service._reconcile()
    else:
        service._advance(control)
        assert control.aborted == [1]
    assert (run().state, run().code, run().restarts) == ("queued", "FW-RUN-213", 1)


def test_an_aborted_run_loses_its_process(service, control, run):
    service._advance(control)
    assert service._handlers()["abort"]({"run": "icu-1"})["run"]["state"] == "aborted"
    service._advance(control)
    assert control.aborted == [1]
    assert service._handlers()["list"]({})["runs"][0]["code"] == "FW-STOP-001"


def test_a_paused_run_has_no_process_and_a_resumed_one_a_new_one(service, control, run):
    commands = service._handlers()
    service._advance(control)
    assert commands["pause"]({"run": "icu-1"})["run"]["state"] == "paused"
    for _ in range(2):
        service._advance(control)
    assert (control.aborted, len(control.started), run().state) == ([1], 1, "paused")
    service._reconcile()
    service._leave(control)
    assert run().state == "paused", "neither a stop nor a start of the server resumes it"
    assert commands["resume"]({"run": "icu-1"})["run"]["state"] == "queued"
    service._advance(control)
    assert (run().state, run().flower_run, run().restarts) == ("running", 2, 0)


def test_two_servers_never_share_a_state_folder(coordinator, service):
    lock = FolderLock(coordinator.folders.root)
    coordinator.folders.control.write_text("of the other")
    try:
        with pytest.raises(FolderInUseError):
            service.run()
    finally:
        lock.release()
    assert coordinator.folders.control.read_text() == "of the other"


def test_a_start_takes_up_what_was_running_and_a_stop_leaves_it_queued(service, control, run):
    service._advance(control)
    service._reconcile()
    assert (run().state, run().restarts) == ("queued", 1)
    service._advance(control)
    service._stop.set()
    service._leave(control)
    assert (run().state, run().restarts, control.aborted) == ("queued", 1, [2])


def test_the_status_names_sites_and_the_active_run(coordinator, service, run):
    enrol(coordinator, "st-anna")
    coordinator.sites.invite("st-bede", hours=1)
    (coordinator.folders.runs / "icu-1" / "progress.json").write_text(json.dumps({"round": 2, "rounds": 4}))
    status = service._status({})
    assert [site["name"] for site in status["sites"]] == ["st-anna"]
    assert status["serving"] is False
    assert status["fingerprint"] == fingerprint(coordinator.identity.public)
    assert (status["active"]["name"], status["active"]["round"]) == ("icu-1", 2)
    assert json.dumps(status), "it travels as JSON"
