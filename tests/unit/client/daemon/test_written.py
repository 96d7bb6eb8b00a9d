"""What a hospital's code opens for writing is on the list that is tried before work begins."""

import threading

from fedward.agreements.enrolment import code_key, new_code
from fedward.client.daemon import service
from fedward.client.daemon.approvals import Approvals
from fedward.client.daemon.folders import SiteFolders, enrol, join, renew, written
from fedward.client.daemon.service import ApprovedSite, Daemon, open_site_ledger
from fedward.plan import Plan
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore
from fedward.privacy.secagg.crypto import fingerprint
from fedward.storage import replace_file
from tests.written_paths import unlisted, written_below


def test_a_hospital_writes_where_it_was_tried(configure, ca, propose, at, tmp_path, monkeypatch):
    config = configure()
    config = config.model_copy(
        update={"ledger": config.ledger.model_copy(update={"anchor_file": str(tmp_path / "other" / "anchor")})}
    )
    folders, plan = SiteFolders(config.folder), propose()
    with written_below(tmp_path) as paths:
        for request in (enrol(folders, "st-anna", key := code_key(new_code())), None):
            sent = request or renew(folders, "st-anna")
            join(folders, "st-anna", ca.answer(sent, key if request else b""), spoken=fingerprint(ca.identity.public))
        book = Approvals(config, folders, folders.identity("st-anna"), clock=lambda: at.now)
        verified = book.open(plan)
        book.decide(verified, accept=False, by="DPO")
        replace_file(folders.node_file, b"")  # as FleetSession does
        folders.log_file.touch()  # as start_log does
        daemon = Daemon(config, threading.Event())
        monkeypatch.setattr(daemon, "_serve", lambda status: None)
        daemon.run()
        site = ApprovedSite(config, folders, threading.Event())
        monkeypatch.setattr(site.approvals, "require", lambda run: verified)
        monkeypatch.setattr(service, "check_proposal", lambda *arguments, **named: None)
        monkeypatch.setattr(site, "_build", lambda verified, journal, adapters, store: (journal.save(b""), adapters))
        site._serve("icu-1")[1].put("adapter", b"")
        site.close()
        ledger = open_site_ledger(
            config, FileStore(folders.ledger), Plan(name="x", base_model_sha256="ab" * 32), train=(), evaluation=()
        )
        steps = [Event("dpsgd", noise_multiplier=4.0, sampling_rate=0.2, steps=4)]
        ledger.reserve(run="icu-1", plan_hash=bytes(32), round_number=1, training=steps)
        replace_file(folders.roster, b"")  # as `fedward roster approve` does
    kept = {path for path in paths if path.is_relative_to(folders.root) or "other" in path.parts}
    assert len(kept) > 20, sorted(map(str, kept))
    assert unlisted(kept - {folders.root, folders.root.parent}, written(config, folders)) == {str(tmp_path / "other")}
