"""Flower edge of the coordinator: the ServerApp that runs a job read from a JSON file.

The kinds form a closed list. A run names a job file, never a function: configuration must not be able to choose code.
``federation`` runs a plan to its final adapter, without torch, from the files that the job names.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedward.adapter import Vector
from fedward.agreements.code import check_core, check_plan_code
from fedward.agreements.proposal import MAX_PROPOSAL_BYTES, open_proposal
from fedward.config import MAX_CONFIG_BYTES, load_toml, parse
from fedward.errors import ConfigError, FedwardError, QuorumError, ResourceError, RunFailedError, failing_as
from fedward.log_lines import OneLine
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.journal import FileJournal
from fedward.privacy.secagg.notices import Waiting
from fedward.privacy.secagg.roster import Roster, verify_roster
from fedward.privacy.secagg.server import RoundSum, SecAggServer
from fedward.run import Run
from fedward.server.flower import GridTransport, HospitalGoneError
from fedward.server.history import Archive
from fedward.server.job_files import (
    ABSENT,
    ALIVE,
    COORDINATOR,
    PROGRESS,
    RUN_LOG,
    FederationJob,
    read_vector,
    write_vector,
)
from fedward.server.rounds import Coordinator, RoundSummary
from fedward.storage import FolderInUseError, locked_file, read_limited, replace_file
from fedward.survey import STATISTICS_FILE, statistics_result

LOG = logging.getLogger(__name__)
PARENT_SECONDS = 0.5
BEAT_SECONDS = 2.0
HOLD_SECONDS = 5.0
RETURN_SECONDS = 15.0
"""How long a run that has begun waits for all of its hospitals before it goes on with those that are there."""

RUN_LOG_BYTES = 10 * 1024**2


def make_job_app() -> ServerApp:
    """The ServerApp of a deployed coordinator: runs the job that the run's ``job`` setting names."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]  # mypy does not follow flwr
    def main(grid: Grid, context: Context) -> None:
        try:
            with ending_with_parent():
                run_job(GridTransport(grid), Path(str(context.run_config["job"])))
        except FedwardError as error:
            # Flower stores this text with the run, where ``fedward.server.superlink`` reads it again.
            message = f"The job ended with {error.code} and exit status {error.exit_code}."
            raise RunFailedError(message, code="FW-RUN-211") from error

    return app


@contextlib.contextmanager
def ending_with_parent(
    parent: Callable[[], int] = os.getppid, leave: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """Ends the process as soon as the one that started it is gone.

    Flower lets a ServerApp whose SuperLink was killed retry for ever; it would hold the lock of its run's journal,
    and the run could not be taken up again. It is safe at any moment: the journal is written before words are sent.
    """
    first, done = parent(), threading.Event()

    def watch() -> None:
        while not done.wait(PARENT_SECONDS):
            if parent() != first:
                leave(RunFailedError.row().exit_code)
                return

    watcher = threading.Thread(target=watch, name="parent", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """Holds the file ``path``, and touches it every two seconds, so that others see that this process works.

    Raises FolderInUseError (a process before this one holds it still).
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(path)

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked_file(path, seconds=HOLD_SECONDS))
        except TimeoutError as error:
            raise FolderInUseError("A process of before still runs this job.") from error
        beater = threading.Thread(target=beat, name="pulse", daemon=True)
        beater.start()
        try:
            yield
        finally:
            done.set()
            beater.join()


def run_job(transport: GridTransport, path: Path) -> None:
    """Runs the job in ``path``. Raises FW-CONFIG-211, or whatever the job raises."""
    try:
        raw = path.read_bytes()
        document = json.loads(raw) if len(raw) <= MAX_CONFIG_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError("The job file cannot be read.", code="FW-CONFIG-211") from error
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ConfigError(f"The job is of no known kind; known kinds are {known}.", code="FW-CONFIG-211")
    KINDS[kind](transport, path)


def run_federation(transport: GridTransport, path: Path) -> None:
    """Runs the job in ``path`` to its final adapter; a job that was stopped goes on when it is submitted again.

    Raises ConfigError, AuthenticationError, ResourceError (a file of the job is wrong or missing), RoundLostError (the
    run cannot go on), QuorumError, FW-TIME-002 (too few hospitals: who is missing stands in a file beside the result).
    """
    job = parse(json.loads(path.read_bytes()), FederationJob, source=path.name)
    result = Path(job.result)
    with _logging_to(result.with_name(RUN_LOG)), beating(result.with_name(ALIVE)):
        try:
            with failing_as(
                ResourceError("A file of the run cannot be read or written.", code="FW-RESOURCE-301"), OSError
            ):
                _run(transport, job)
        except FedwardError as error:
            LOG.error("run %s ended: %s", job.run, error.code)
            raise


def _run(transport: GridTransport, job: FederationJob) -> None:
    roster = Path(job.roster).read_bytes()
    verified = verify_roster(roster)
    check_core(verified.roster.code_hash)  # first: with another core, a plan of then may not be readable now
    plan = load_toml(Path(job.plan), Plan)
    identity = Identity.from_file(COORDINATOR, Path(job.identity))
    if job.signed is not None:
        terms = open_proposal(read_limited(Path(job.signed), MAX_PROPOSAL_BYTES), identity.public).proposal.terms
        check_plan_code(terms.read(), terms.family, terms.code_hash)
    layout, adapter = read_vector(Path(job.start))
    schedule = Run.resolve(plan, layout)
    journal = FileJournal(Path(job.state), Path(job.journal_key).read_bytes())
    coordinator = Coordinator(
        run=schedule,
        name=job.run,
        adapter=adapter,
        secagg=SecAggServer(identity=identity, roster=roster, journal=journal),
        colluders=verified.roster.colluders,
        transport=transport,
        archive=Archive(journal.beside("rounds"), job.run),
        on_round=_progress(Path(job.result), schedule),
    )
    del adapter  # or the start would stay in memory beside what becomes of it
    final = _waiting_for_hospitals(transport, job, coordinator, verified.roster)
    write_vector(final, layout, Path(job.result))


def _waiting_for_hospitals(
    transport: GridTransport, job: FederationJob, coordinator: Coordinator, roster: Roster
) -> Vector:
    """Runs the plan; while too few hospitals are there, and after they were, a file says who is missing and why.

    Raises QuorumError, FW-TIME-002 (too few hospitals).
    """
    absent, sites = Path(job.result).with_name(ABSENT), sorted(roster.keys)

    def note(missing: Collection[str]) -> None:
        named = coordinator.absent | dict.fromkeys(missing, HospitalGoneError.code)
        replace_file(absent, json.dumps(named, sort_keys=True).encode())
        transport.notify(Waiting(job.run, named).to_bytes())

    patience = RETURN_SECONDS if coordinator.begun else job.discover_seconds
    enough = roster.policy.min_cohort
    transport.discover(sites, seconds=job.discover_seconds, enough=enough, patience=patience, on_missing=note)
    absent.unlink(missing_ok=True)
    try:
        return coordinator.run()
    except QuorumError:
        note(set(sites) - transport.online(sites))
        raise


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Keeps fedward's records of this run: who was refused in which leg with which code. Flower keeps its own.

    The file is for the coordinator's user alone. Where processes of one run follow each other, they append.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handler = RotatingFileHandler(path, maxBytes=RUN_LOG_BYTES, backupCount=1)
    handler.setFormatter(OneLine())
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


def _progress(result: Path, run: Run) -> Callable[[RoundSummary, RoundSum], None]:
    def note(summary: RoundSummary, done: RoundSum) -> None:
        LOG.info("round %d: %d hospitals in the sum", summary.round, len(done.survivors))
        if run.surveys:
            found = statistics_result(
                run, summary.statistics, deviation=summary.deviation, hospitals=len(done.survivors)
            )
            replace_file(result.with_name(STATISTICS_FILE), found.model_dump_json(indent=2).encode() + b"\n")
        state = {"round": summary.round, "rounds": max(1, run.rounds), "survivors": sorted(done.survivors)}
        replace_file(result.with_name(PROGRESS), json.dumps(state).encode())

    return note


KINDS: dict[str, Callable[[GridTransport, Path], None]] = {"federation": run_federation}
"""Entry points by the ``kind`` in the job file; each reads the rest of the file itself."""
