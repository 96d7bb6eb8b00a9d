import json
import os
import threading
from types import SimpleNamespace

import pytest

from fedward.client.daemon import service
from fedward.client.daemon.folders import Status, read_status
from fedward.client.daemon.service import ApprovedSite, Daemon
from fedward.errors import DataError
from fedward.messages import Reply, Request, Stage
from fedward.privacy.ledger import FileStore
from fedward.storage import FolderLock
from tests.codes import raises


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(service, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(service, "GRACE_SECONDS", 0.05)


def test_a_stop_file_keeps_a_daemon_from_starting(configure, folders):
    folders.stop_file.touch()
    with raises("FW-STOP-301") as caught:
        Daemon(configure(), threading.Event()).run()
    assert caught.value.exit_code == 14


def test_a_stop_file_ends_a_daemon_that_serves(configure, folders, monkeypatch, quick):
    stop = threading.Event()
    daemon = Daemon(configure(), stop, leave=lambda code: pytest.fail("it ended by itself"))

    def serve(status):
        folders.stop_file.touch()
        assert stop.wait(10)

    monkeypatch.setattr(daemon, "_serve", serve)
    with raises("FW-STOP-301"):
        daemon.run()
    assert read_status(folders)["running"] is False


def test_a_daemon_names_itself_before_anything_else(configure, folders, monkeypatch, quick):
    """`fedward client stop` kills the process of the status file if it must; another may have its number by now."""
    folders.status_file.write_text(json.dumps({"pid": 1, "state": "online"}), encoding="utf-8")
    daemon = Daemon(configure(), threading.Event())
    seen = []
    monkeypatch.setattr(daemon, "_serve", lambda status: seen.append(read_status(folders)))
    daemon.run()
    assert (seen[0]["pid"], seen[0]["state"], seen[0]["running"]) == (os.getpid(), "starting", True)


def test_a_second_state_folder_on_one_ledger_opens_no_run(configure, joined, propose, monkeypatch):
    """Broken: both daemons train the round that one of them has charged."""
    site = ApprovedSite(configure(), joined, threading.Event())
    verified = site.approvals.open(propose())
    monkeypatch.setattr(site.approvals, "require", lambda run: verified)
    monkeypatch.setattr(service, "check_proposal", lambda *arguments, **named: None)
    monkeypatch.setattr(site, "_build", lambda *arguments: "hospital")
    with FileStore(joined.ledger).open_run(), raises("FW-LEDGER-011"):
        site._serve("icu-1")
    assert site._serve("icu-1") == "hospital"
    with raises("FW-LEDGER-011"), FileStore(joined.ledger).open_run():
        pass
    site.close()
    with FileStore(joined.ledger).open_run():
        pass


@pytest.mark.parametrize(("by_file", "status"), [(True, 14), (False, 0)])
def test_what_does_not_end_by_itself_is_ended(configure, folders, monkeypatch, quick, by_file, status):
    stop, left = threading.Event(), threading.Event()
    codes = []

    def leave(code):
        codes.append(code)
        left.set()

    daemon = Daemon(configure(), stop, leave=leave)

    def stuck(status):
        folders.stop_file.touch() if by_file else stop.set()
        assert left.wait(10)
        folders.stop_file.unlink(missing_ok=True)

    monkeypatch.setattr(daemon, "_serve", stuck)
    daemon.run()
    assert codes == [status]


def test_a_daemon_that_makes_no_progress_is_left_to_its_watchdog(configure, folders, monkeypatch, quick):
    told, stop, now = [], threading.Event(), [0.0]
    monkeypatch.setattr(service, "notify", told.append)
    daemon = Daemon(configure(), stop, clock=lambda: now[0])

    def serve(status):
        while "WATCHDOG=1" not in told:
            stop.wait(0.01)
        now[0] = service.STALL_SECONDS + 1
        stop.wait(0.05)
        told.clear()
        stop.wait(0.1)
        assert told == []
        daemon._beat()
        while "WATCHDOG=1" not in told:
            stop.wait(0.01)

    monkeypatch.setattr(daemon, "_serve", serve)
    daemon.run()
    assert told[-1] == "STOPPING=1"


def test_a_site_without_keys_says_so(configure, quick):
    with raises("FW-AUTH-302"):
        Daemon(configure(), threading.Event()).run()


def test_status_is_written_at_changes_and_otherwise_once_a_second(folders):
    now = [100.0]
    status = Status(folders.status_file, clock=lambda: now[0])
    status.state("connecting")
    status.leg("icu-1", "join")
    assert json.loads(folders.status_file.read_bytes())["run"] == ""
    now[0] += 1.0
    status.leg("icu-1", "mask")
    assert read_status(folders)["leg"] == "mask"


def test_status_says_for_whom_a_run_waits_until_there_is_work_again(folders):
    status = Status(folders.status_file, clock=lambda: 100.0)
    status.waiting("icu-1", {"st-bede": "FW-NET-212"})
    assert read_status(folders)["waits_for"] == {"st-bede": "FW-NET-212"}
    status.leg("icu-1", "manifest")
    assert (read_status(folders)["waits_for"], read_status(folders)["leg"]) == ({}, "manifest")


def test_only_who_holds_the_state_folder_is_running(folders):
    assert (read_status(folders)["state"], read_status(folders)["running"]) == ("never started", False)
    Status(folders.status_file).state("online")
    assert read_status(folders)["running"] is False, "a process id in a file is no process"
    lock = FolderLock(folders.root)
    assert read_status(folders)["running"] is True
    lock.release()
    assert read_status(folders)["running"] is False


def test_the_status_names_the_reason_for_people_at_the_hospital(configure, joined, tmp_path, monkeypatch) -> None:
    status = Status(tmp_path / "status.json", clock=lambda: 1.0)
    site = ApprovedSite(configure(), joined, threading.Event(), on_refusal=status.refused)

    def refuse(request):
        raise DataError("So many rows cannot be used.", code="FW-DATA-019")

    monkeypatch.setattr(site, "_answer", refuse)
    with pytest.raises(DataError):
        site.answer(Request(Stage.JOIN, b""))
    said = json.loads((tmp_path / "status.json").read_text())
    assert said["refused"] == {"leg": "join", "code": "FW-DATA-019", "at": 1}
    monkeypatch.setattr(site, "_answer", lambda request: Reply(b"x"))
    assert site.answer(Request(Stage.JOIN, b"")).payload == b"x"


class Clock:
    """Time that passes only where somebody computes or waits."""

    def __init__(self):
        self.now, self.waits = 100.0, []

    def wait(self, seconds):
        self.now += seconds
        self.waits.append(seconds)
        return False


@pytest.fixture
def timed(configure, joined, monkeypatch):
    """Asks a site for a stage that takes so many seconds; returns after how many the answer leaves."""
    clock = Clock()

    def ask(stage, took, *, seconds=3.0, opens=False, refuses=False, stopped=False):
        stop = threading.Event()
        site = ApprovedSite(configure(), joined, stop, clock=lambda: clock.now, wait=clock.wait)
        plan = SimpleNamespace(privacy=SimpleNamespace(reply_seconds=seconds))
        monkeypatch.setattr(site.approvals, "require", lambda run: SimpleNamespace(plan=plan))

        def compute(request):
            clock.now += took
            if refuses:
                raise DataError("So many rows cannot be used.", code="FW-DATA-019")
            return Reply(b"x")

        site._run, site._hospital = "icu-1", None if opens else "open"
        monkeypatch.setattr(site, "_serve", lambda run: SimpleNamespace(answer=compute))
        if stopped:
            monkeypatch.setattr(site, "wait", lambda seconds: True)
        before = clock.now
        if refuses:
            with raises("FW-DATA-019"):
                site.answer(Request(stage, b""))
        else:
            assert site.answer(Request(stage, b"")).payload == b"x"
        return pytest.approx(clock.now - before)

    ask.clock = clock
    return ask


@pytest.mark.parametrize("took", [0.0, 0.0013, 0.0076, 0.051, 2.999])
def test_an_empty_sample_and_a_full_one_answer_at_the_same_time(timed, took):
    """Broken: the coordinator reads the number of sampled patients from the time that each answer takes."""
    assert timed(Stage.MANIFEST, took) == 3.0
    assert timed(Stage.MANIFEST, took, refuses=True) == 3.0
    assert timed(Stage.RESULT, took, opens=True) == 3.0, "tables are read where a run is opened"


def test_what_takes_longer_leaves_at_a_whole_multiple_and_is_logged(timed, caplog):
    assert timed(Stage.MANIFEST, 3.001) == timed(Stage.MANIFEST, 5.9) == 6.0
    assert "took longer than the plan's reply time" in caplog.text


def test_stages_without_records_a_stop_and_a_plan_without_a_time_do_not_wait(timed):
    for stage in (Stage.BUNDLES, Stage.SEAL, Stage.MASK, Stage.CONFIRM, Stage.UNMASK, Stage.RESULT, Stage.CHALLENGE):
        assert timed(stage, 0.5) == 0.5
    assert timed(Stage.MANIFEST, 0.5, stopped=True) == 0.5
    for seconds in (0.0, None):
        assert timed(Stage.MANIFEST, 0.5, seconds=seconds) == 0.5


def test_a_long_wait_is_alive_for_the_watchdog(timed):
    assert timed(Stage.MANIFEST, 1.0, seconds=200.0) == 200.0
    assert max(timed.clock.waits) <= service.BEAT_SECONDS < service.STALL_SECONDS
