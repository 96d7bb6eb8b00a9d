"""What a coordinator's code opens for writing is on the list that is tried before work begins."""

import threading

import numpy as np

from fedward.adapter import AdapterLayout
from fedward.privacy.secagg.journal import FileJournal
from fedward.server import job
from fedward.server.deployment.records import RECORD, RESULT, RunRecord, Runs
from fedward.server.deployment.service import Service
from fedward.server.job_files import ABSENT, PROGRESS, RUN_LOG, write_vector
from fedward.server.superlink import SuperLink
from fedward.storage import replace_file, replace_private
from tests.written_paths import unlisted, written_below


def test_a_coordinator_writes_where_it_was_tried(coordinator, monkeypatch):
    folders, runs = coordinator.folders, Runs(coordinator.folders)
    folder, stop = folders.runs / "icu-1", threading.Event()
    with written_below(folders.root) as paths:
        applicant = coordinator.applicant("st-anna")
        coordinator.accept(applicant.request(coordinator.sites.invite("st-anna", hours=1)))
        coordinator.sites.revoke("st-anna")
        coordinator.authority.issue_server(["127.0.0.1"])
        folder.mkdir()
        record = RunRecord(name="icu-1", state="queued", plan_hash="", sites=["st-anna"], submitted=1)
        replace_private(folder / RECORD, record.model_dump_json().encode())
        runs.waits(runs.started(record, 1), "FW-RUN-002")
        journal = FileJournal(folder / "journal", bytes(32))
        journal.save(b"")
        journal.beside("rounds").put("vector", b"")
        with job._logging_to(folder / RUN_LOG):
            for name in (PROGRESS, ABSENT):
                replace_file(folder / name, b"{}")
        write_vector(np.zeros(4, np.float32), AdapterLayout.of([("head.weight", (1, 4))]), folder / RESULT)
        service = Service(coordinator.config, stop)
        monkeypatch.setattr(service, "_keep_serving", lambda: None)
        service.run()
        with SuperLink(folders.superlink):
            pass
    assert {"control.json", "superlink.log", RECORD, RUN_LOG, "server.key", "st-anna.json"} <= {p.name for p in paths}
    assert unlisted(paths - {folders.root}, folders.places()) == set()
