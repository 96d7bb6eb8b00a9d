"""Job files, and what the supervisor makes of a run's end."""

import json
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from fedward.errors import ConfigError
from fedward.messages import Reply
from fedward.server import job as jobs
from fedward.server.job import run_job
from fedward.server.job_files import RunEnd
from fedward.server.superlink import RunState, SuperLink, end_of
from fedward.storage import FolderInUseError, is_locked
from tests.codes import raises
from tests.echo_job import run_echo


class Road:
    """A transport whose sites answer by a function; ``silent`` ones miss every deadline."""

    def __init__(self, answer, silent=()):
        self.answer, self.silent = answer, silent

    def discover(self, sites, *, seconds):
        self.sites = sites

    def exchange(self, requests, *, seconds):
        return ((site, self.answer(request)) for site, request in requests if site not in self.silent)


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setitem(jobs.KINDS, "echo", run_echo)

    def write(**settings):
        path = tmp_path / "job.json"
        document = {"kind": "echo", "sites": ["a", "b"], "report": str(tmp_path / "report"), "nbytes": 10, "rounds": 2}
        path.write_text(json.dumps(document | settings), encoding="utf-8")
        return SimpleNamespace(path=path, report=lambda: json.loads((tmp_path / "report").read_text()))

    return write


def test_an_echo_job_reports_who_answered(job):
    files = job()
    run_job(Road(lambda request: Reply(request.payload, request.blobs), silent=("b",)), files.path)
    assert [list(answered) for answered in files.report()] == [["a"], ["a"]]
    assert files.report()[0]["a"]["nbytes"] == 10 + 32


def test_an_echo_job_fails_on_other_bytes(job):
    with raises("FW-INTEGRITY-001"):
        run_job(Road(lambda request: Reply(request.payload, {"noise": np.zeros(10, np.uint8)})), job().path)


@pytest.mark.parametrize("kind", ["os.system", "", None, ["echo"]])
def test_a_job_of_another_kind_is_refused(job, kind):
    with raises("FW-CONFIG-211"):
        run_job(Road(None), job(kind=kind).path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_file_that_is_no_job_is_refused(tmp_path, text):
    path = tmp_path / "job.json"
    path.write_text(text, encoding="utf-8")
    with raises("FW-CONFIG-211"):
        run_job(Road(None), path)


def test_an_unknown_key_in_a_job_is_refused(job):
    with pytest.raises(ConfigError):
        run_job(Road(None), job(entry="os:system").path)


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (RunState("finished", "completed", ""), RunEnd(0, "")),
        (
            RunState(
                "finished",
                "failed",
                "ServerApp failed with exception: The job ended with FW-RUN-002 and exit status 10.",
            ),
            RunEnd(10, "FW-RUN-002"),
        ),
        (RunState("finished", "failed", "ServerApp failed with exception: FW-"), RunEnd(9, "FW-RUN-213")),
        (RunState("finished", "stopped", ""), RunEnd(9, "FW-RUN-213")),
    ],
)
def test_a_runs_end_becomes_an_exit_status(state, end):
    assert end_of(state) == end


def test_a_superlink_without_tls_stays_on_loopback(tmp_path):
    with raises("FW-RESOURCE-211"):
        SuperLink(tmp_path, host="192.0.2.1")


def test_a_job_ends_with_the_process_that_started_it(monkeypatch):
    monkeypatch.setattr(jobs, "PARENT_SECONDS", 0.01)
    left, codes, parents = threading.Event(), [], [41]

    def leave(code):
        codes.append(code)
        left.set()

    with jobs.ending_with_parent(lambda: parents[0], leave):
        assert not codes
        parents[0] = 1
        assert left.wait(10)
    assert codes == [9]
    with jobs.ending_with_parent(lambda: 41, leave):
        pass
    assert codes == [9]


def test_a_job_shows_that_it_works_and_is_not_begun_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(jobs, "HOLD_SECONDS", 0.0)
    path = tmp_path / "alive"
    with jobs.beating(path):
        assert is_locked(path)
        os.utime(path, ns=(1, 1))
        beaten = threading.Event()
        while path.stat().st_mtime_ns == 1:
            assert not beaten.wait(0.01)
        with pytest.raises(FolderInUseError), jobs.beating(path):
            pass
    assert not is_locked(path)
