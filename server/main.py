"""The federation job: what a deployed coordinator runs inside its ServerApp process.

Everything it needs lies in files that the job file names: the plan, the approved roster, the
coordinator's signing key and the adapter to start from. It runs without torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fedward.agreements.code import check_core, check_plan_code
from fedward.agreements.proposal import MAX_PROPOSAL_BYTES, open_proposal
from fedward.config import load_toml, parse
from fedward.errors import FedwardError
from fedward.plan import Plan
from fedward.privacy.secagg import FileJournal, Identity, RoundSum, SecAggServer, verify_roster
from fedward.run import Run
from fedward.server.archive import Archive
from fedward.server.flower import GridTransport
from fedward.server.job_files import COORDINATOR, PROGRESS, RUN_LOG, FederationJob, read_vector, write_vector
from fedward.server.rounds import Coordinator, RoundSummary
from fedward.storage import read_limited, replace_file

LOG = logging.getLogger(__name__)
RUN_LOG_BYTES = 10 * 1024**2


def run_federation(transport: GridTransport, path: Path) -> None:
    """Runs the job in ``path`` to its final adapter; a job that was stopped goes on when it is submitted again.

    Raises:
        ConfigError, AuthenticationError: a file of the job is missing or wrong.
        QuorumError, RoundLostError: the run cannot go on.
    """
    job = parse(json.loads(path.read_bytes()), FederationJob, source=path.name)
    with _logging_to(Path(job.result).with_name(RUN_LOG)):
        try:
            _run(transport, job)
        except FedwardError as error:
            LOG.error("run %s ended: %s", job.run, error.code)
            raise


def _run(transport: GridTransport, job: FederationJob) -> None:
    plan = load_toml(Path(job.plan), Plan)
    roster = Path(job.roster).read_bytes()
    verified = verify_roster(roster)
    check_core(verified.roster.code_hash)
    identity = Identity.from_file(COORDINATOR, Path(job.identity))
    _check_signed(job, identity)
    layout, adapter = read_vector(Path(job.start))
    journal = FileJournal(Path(job.state), Path(job.journal_key).read_bytes())
    coordinator = Coordinator(
        run=Run.resolve(plan, layout),
        name=job.run,
        adapter=adapter,
        secagg=SecAggServer(
            identity=identity,
            roster=roster,
            journal=journal,
        ),
        colluders=verified.roster.colluders,
        transport=transport,
        archive=Archive(journal.beside("rounds"), job.run),
        on_round=_progress(Path(job.result).with_name(PROGRESS), plan.training.rounds),
    )
    del adapter  # or the start would stay in memory beside what becomes of it
    transport.discover(sorted(verified.roster.keys), seconds=job.discover_seconds)
    write_vector(coordinator.run(), layout, Path(job.result))


def _check_signed(job: FederationJob, identity: Identity) -> None:
    if job.signed is not None:
        terms = open_proposal(read_limited(Path(job.signed), MAX_PROPOSAL_BYTES), identity.public).proposal.terms
        check_plan_code(terms.read(), terms.family, terms.code_hash)


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Keeps fedward's records of this run: who was refused in which leg with which code. Flower keeps its own.

    The file is for the coordinator's user alone. Where processes of one run follow each other, they append.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handler = RotatingFileHandler(path, maxBytes=RUN_LOG_BYTES, backupCount=1)
    line = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    line.converter = time.gmtime
    handler.setFormatter(line)
    logger = logging.getLogger("fedward")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _progress(path: Path, rounds: int) -> Callable[[RoundSummary, RoundSum], None]:
    def note(summary: RoundSummary, done: RoundSum) -> None:
        LOG.info("round %d: %d hospitals in the sum", summary.round, len(done.survivors))
        state = {"round": summary.round, "rounds": rounds, "survivors": sorted(done.survivors)}
        replace_file(path, json.dumps(state).encode())

    return note
