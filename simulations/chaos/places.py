"""Places of a chaos federation: where its agreement lies, and the folders and files of one case."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

COORDINATOR = "coordinator"
RUN = "chaos-1"


@dataclass(frozen=True)
class Places:
    """Files of one federation: ``agreed`` ones stay, those of a case are wiped before the next."""

    root: Path

    @property
    def agreed(self) -> Path:
        """Scenario, plan, roster, keys, start."""
        return self.root / "agreed"

    @property
    def case(self) -> Path:
        """State folders, ledgers, history and result of the present case."""
        return self.root / "case"

    @property
    def history(self) -> Path:
        """One file of events for each party."""
        return self.case / "history"

    @property
    def job(self) -> Path:
        """What the coordinator's process is told."""
        return self.case / "job.json"

    @property
    def road(self) -> Path:
        """The socket of a case that is played without a SuperLink."""
        return self.case / "road"

    def state(self, site: str) -> Path:
        """A hospital's journal and adapters; its ledger and anchor lie in folders of their own."""
        return self.case / "sites" / site / "journal"

    def ledger(self, site: str) -> Path:
        """Of one hospital."""
        return self.case / "sites" / site / "ledger"

    def anchor(self, site: str) -> Path:
        """Second place of the ledger's head."""
        return self.case / "sites" / site / "anchor" / "head.json"

    def node_file(self, site: str) -> Path:
        """Outlives cases: the node's key is the same in all of them."""
        return self.agreed / f"{site}.node-id"

    def node_key(self, site: str) -> ec.EllipticCurvePrivateKey:
        """Of the hospital's Flower node."""
        key = load_pem_private_key((self.agreed / f"{site}.node.pem").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("The node key is of another kind.")
        return key

    def begin_case(self) -> None:
        """Wipes what the case before has left."""
        shutil.rmtree(self.case, ignore_errors=True)
        self.history.mkdir(parents=True)
        files = {"plan": "plan.toml", "roster": "roster.cbor", "identity": "coordinator.key"}
        files |= {"start": "start.safetensors", "journal_key": "journal.key"}
        job = {key: str(self.agreed / name) for key, name in files.items()}
        own = {"state": str(self.case / "journal"), "result": str(self.case / "final.safetensors")}
        document = {"kind": "federation", "run": RUN, "discover_seconds": 20.0, **job, **own}
        self.job.write_text(json.dumps(document), encoding="utf-8")


def log_to(path: Path) -> None:
    """Sends what this process prints to a file from now on."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
