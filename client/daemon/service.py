"""Service of a hospital, `fedward client run`: serves approved runs until it is stopped, and then stops at once.

:class:`ApprovedSite` is the hospital as the coordinator meets it: one approved run at a time, opened when it is invited
to, or refused. Everything about a run lies in its own folder: journal and adapters. Ledger and approvals are the
site's. The run's name comes from the coordinator's signed invitation; all else is read from files of this machine.

:class:`Daemon` is the process around it. The kill switch works without a network: a file called STOP in the state
folder, or SIGTERM. Training ends at its next step; whatever still runs after the grace period is ended with the
process. That is safe at any moment: a round is charged before its first noisy step, and state is written before words
are sent.
"""

import contextlib
import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import torch

from fedward.agreements.proposal import VerifiedProposal
from fedward.client.daemon.approvals import (
    Approvals,
    approved_roster,
    check_family,
    check_proposal,
    check_size,
)
from fedward.client.daemon.folders import (
    HOSPITAL,
    SITE_RUN,
    SiteFolders,
    Status,
    endpoint_of,
    pinned_coordinator,
    written,
)
from fedward.client.daemon.recomputed import Recomputed, check_said
from fedward.client.daemon.settings import ClientConfig
from fedward.client.data import Example
from fedward.client.examples import load_examples, split_for
from fedward.client.flower import make_client_app, serve
from fedward.client.hospital import Hospital, local_policy
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import ModelFiles, resolve_named
from fedward.client.records import Records
from fedward.client.survey import Rows, rows_of
from fedward.client.tasks import local_task
from fedward.errors import DataError, FedwardError, PolicyError, StoppedError
from fedward.messages import Reply, Request, Stage
from fedward.notify import notify
from fedward.places import check_places
from fedward.plan import Plan
from fedward.privacy import ledger as ledgers
from fedward.privacy.ledger import FileStore, Ledger, LedgerStore, MemoryStore, RoundCost
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import journal_key, open_sealed
from fedward.privacy.secagg.journal import FileJournal, Journal, MemoryJournal
from fedward.privacy.secagg.messages import EpochInvite
from fedward.privacy.secagg.roster import VerifiedRoster
from fedward.run import Run, certain_shares
from fedward.storage import FolderLock, read_limited, replace_private

LOG = logging.getLogger(__name__)
WATCH_SECONDS = 0.2
GRACE_SECONDS = 1.5
STALL_SECONDS = 900.0
BEAT_SECONDS = 60.0
_CURRENT = "current-run"


class NoRunError(PolicyError, code="FW-POLICY-309"):
    """A leg was asked for before any run was opened at this site."""


@dataclass(frozen=True)
class Prepared:
    """What is read and built once: the resolved plan, the base model's files and this site's encoded records."""

    run: Run
    files: ModelFiles | None  # none of a plan of statistics, which needs no model
    train: Records
    evaluation: Records
    survey: Rows | None = None  # of a plan of statistics


@dataclass(eq=False, repr=False)
class ApprovedSite:
    """The hospital as the coordinator meets it; see :class:`fedward.client.flower.Site`."""

    config: ClientConfig
    folders: SiteFolders
    stop: threading.Event  # ends training at its next step
    on_leg: Callable[[str, str], None] = lambda run, leg: None  # told what is being answered, and each step
    on_refusal: Callable[[str, str], None] = lambda leg, code: None  # told why there is no answer; stays here
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], bool] | None = None  # so many seconds, or until this site is stopped: True; for tests

    def __post_init__(self) -> None:
        self.name = self.config.site.name
        self._identity = self.folders.identity(self.name)
        self._coordinator = pinned_coordinator(self.folders).coordinator
        self.approvals = Approvals(self.config, self.folders, self._identity)
        self._run, self._journals = "", contextlib.ExitStack()  # the open run's name and journals
        self._hospital: Hospital | None = None
        self._prepared: dict[bytes, Prepared] = {}

    def answer(self, request: Request) -> Reply:
        """Handles one leg; raises FedwardError to refuse, whose code is all that may leave."""
        try:
            return self._answer(request)
        except Exception as error:
            self.on_refusal(request.stage, error.code if isinstance(error, FedwardError) else FedwardError.code)
            raise

    def _answer(self, request: Request) -> Reply:
        began = self.clock()
        if self.stop.is_set():
            raise StoppedError("This site was stopped.")
        if request.stage is Stage.JOIN:
            run = EpochInvite.from_bytes(open_sealed("epoch-invite", request.payload, self._coordinator)).run
        else:
            run = self._current()
        held = self.approvals.require(run).plan.privacy.reply_seconds or 0.0
        self.on_leg(run, request.stage)
        reads = self._hospital is None or run != self._run or request.stage is Stage.MANIFEST
        try:
            return self._serve(run).answer(request)
        finally:  # also a refusal: what it depended on took its time too
            if reads and held:
                self._hold(run, began, held)

    def _hold(self, run: str, began: float, seconds: float) -> None:
        """Waits until a whole multiple of ``seconds`` since ``began``, so that the time tells nothing of a sample."""
        times = max(1, math.ceil((self.clock() - began) / seconds))
        if times > 1:
            LOG.warning("an answer took longer than the plan's reply time; it leaves at %d times it", times)
        wait = self.stop.wait if self.wait is None else self.wait
        while (left := began + times * seconds - self.clock()) > 0 and not wait(min(left, BEAT_SECONDS)):
            self.on_leg(run, "waiting")

    def warm(self) -> None:
        """Opens the run that this site was in, if there is one, so that the first leg finds everything loaded."""
        try:
            run = self._current()
        except NoRunError:
            return
        self.approvals.require(run)
        self._serve(run)

    def close(self) -> None:
        """Frees the folders of the open run; a later leg opens it again."""
        self._journals.close()
        self._run, self._hospital = "", None

    def rehearse(self, run: str) -> tuple[int, int]:
        """Does all that precedes the first training step of an approved run, on copies; raises what would stop it.

        Returns how many training and evaluation units it has.
        """
        verified = self.approvals.require(run)
        shares = self.approvals.shares(verified.plan)
        check_proposal(verified, self.config, now=verified.proposal.made, shares=shares)
        copy = MemoryStore()
        copy.links = FileStore(self.folders.ledger).load()
        self._build(verified, MemoryJournal(), None, copy)
        prepared = self._prepare(verified.plan)
        return len(set(prepared.train.names)), len(set(prepared.evaluation.names))

    def _current(self) -> str:
        if self._run:
            return self._run
        path = self.folders.root / _CURRENT
        if not path.exists():
            raise NoRunError("No run is open at this site.")
        return read_limited(path, 64).decode("ascii", "replace")

    def _serve(self, run: str) -> Hospital:
        if self._hospital is not None and run == self._run:
            return self._hospital
        verified = self.approvals.require(run)
        shares = self.approvals.shares(verified.plan)
        check_proposal(verified, self.config, now=verified.proposal.made, shares=shares)
        self.close()
        with contextlib.ExitStack() as held:
            journal = FileJournal(self.folders.run(run), journal_key(self.folders.journal_key(), f"run/{run}"))
            held.callback(journal.close)
            SITE_RUN.settle(self.folders.run(run))
            adapters = journal.beside("adapters")
            held.callback(adapters.close)
            store = FileStore(self.folders.ledger)
            if verified.plan.privacy.private:
                held.enter_context(store.open_run())
            hospital = self._build(verified, journal, adapters, store)
            replace_private(self.folders.root / _CURRENT, run.encode("ascii"))
            self._run, self._hospital, self._journals = run, hospital, held.pop_all()
        LOG.info("run %s is open", run)
        return hospital

    def _build(
        self, verified: VerifiedProposal, journal: Journal, adapters: Journal | None, store: LedgerStore
    ) -> Hospital:
        signed, roster = approved_roster(self.folders, self.config, self._identity)
        prepared = self._prepare(verified.plan)
        run, model, agreed = prepared.run, None, roster.roster
        if prepared.files is not None:
            check_family(verified, prepared.files.config().family.name)
            model = build_model(run, prepared.files, site=self.name)
        check_said(verified, Recomputed.of(verified.plan, prepared.files))
        cohort = max(self.config.policy.min_cohort, agreed.policy.min_cohort)
        policy = local_policy(run, model, agreed, min_cohort=cohort, name=verified.proposal.run)
        secagg = SecAggClient(identity=self._identity, roster=signed, policy=policy, journal=journal)
        return Hospital(
            name=self.name,
            run=run,
            task=local_task(run.task.name),
            model=model,
            train=prepared.train,
            evaluation=prepared.evaluation,
            secagg=secagg,
            roster=roster,
            ledger=self._ledger(verified, roster, store, prepared, policy.max_rounds),
            adapters=adapters,
            microbatch=self.config.limits.microbatch,
            between_steps=self._between_steps,
            survey=prepared.survey,
        )

    def _prepare(self, plan: Plan) -> Prepared:
        """Reads the records, once for a plan, a mapping file and a list of opt-outs."""
        key = plan.hash() + self.approvals.reader + _digest(self.config.tables.excluded)
        if key not in self._prepared:
            prepared = self._trained(plan) if plan.statistics is None else self._counted(plan)
            self._prepared = {key: prepared}
        return self._prepared[key]

    def _trained(self, plan: Plan) -> Prepared:
        files, length = resolve_named(plan.base_model), plan.adapter.max_tokens
        run = resolve_run(plan, files.config())
        task, model = local_task(run.task.name), build_model(run, files, site=self.name)
        parts = self._examples(plan)
        train, evaluation = (Records.encode(part, task, files, model, max_tokens=length) for part in parts)
        return Prepared(run, files, train, evaluation)

    def _counted(self, plan: Plan) -> Prepared:
        run = Run.of_statistics(plan)
        parts, task = self._examples(plan), local_task(run.task.name)
        train, evaluation = (Records.unread(part, task) for part in parts)
        return Prepared(run, None, train, evaluation, rows_of([*parts[0], *parts[1]], run.counts))

    def _examples(self, plan: Plan) -> tuple[list[Example], list[Example]]:
        tables = self.config.tables
        examples = load_examples(
            Path(tables.path), format=tables.format, task=plan.task, leave_out=tables.leave_out,
            every=plan.privacy.records_per_unit > 1, exclude=tables.excluded, mapping=tables.mapped_by,
            counted=plan.statistics is not None, most_dropped=tables.most_dropped,
        )  # fmt: skip
        parts = split_for(plan, examples)
        check_size(parts[0], self.config.policy, plan.privacy.unit)
        return parts

    def _ledger(
        self, verified: VerifiedProposal, roster: VerifiedRoster, store: LedgerStore, prepared: Prepared, rounds: int
    ) -> Ledger | None:
        """The site's ledger, after it was made sure that the whole run fits; None for a plan that charges nothing."""
        plan = verified.plan
        if not plan.privacy.private:
            return None
        names = {"train": prepared.train.names, "evaluation": prepared.evaluation.names}
        ledger = open_site_ledger(self.config, store, plan, **names)
        schedule, run, sites = prepared.run, verified.proposal.run, roster.roster.keys
        numbers = [number for number in range(1, rounds + 1) if self.name in schedule.cohort(number, sites)]
        # Rounds whose output has left were paid for; only what is still to come has to fit.
        known = {number: ledger.book.reservation(run, number) for number in numbers}
        coming = [number for number, recorded in known.items() if recorded is None or not recorded.settled]
        costs = [_cost(schedule, number, sites, roster.roster.colluders) for number in coming]
        ledger.preflight(run=run, plan_hash=plan.hash(), rounds=costs)
        return ledger

    def _between_steps(self) -> None:
        if self.stop.is_set():
            raise StoppedError("This site was stopped.")
        self.on_leg(self._run, "training")


def _cost(run: Run, number: int, sites: Collection[str], colluders: int) -> RoundCost:
    honest = certain_shares(run, number, sites, colluders)
    return RoundCost(number, run.training_events(number, honest=honest), run.evaluation_events(number, honest=honest))


def _digest(path: Path | None) -> bytes:
    """Hash of a file as it is now; raises FW-DATA-070 where it cannot be read."""
    if path is None:
        return b""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise DataError(f"The opt-out list {path} cannot be read.", code="FW-DATA-070") from error


def open_site_ledger(
    config: ClientConfig, store: LedgerStore, plan: Plan, *, train: Iterable[str], evaluation: Iterable[str]
) -> Ledger:
    """Opens the ledger in ``store`` for a run of ``plan``, or begins it; on a copy in memory the anchor is left alone.

    ``train`` and ``evaluation`` identify the units that can be sampled; they are hashed only where a namespace is
    declared. Raises ConfigError FW-LEDGER-008 (the key of the namespace cannot be used), PolicyError FW-LEDGER-004,
    FW-LEDGER-010, IntegrityError FW-LEDGER-001, FW-LEDGER-002, ResourceError FW-LEDGER-006.
    """
    section, namespace, patients = config.ledger, None, None
    if section.namespace is not None and section.namespace_key is not None:
        namespace = ledgers.Namespace.from_file(section.namespace, Path(section.namespace_key))
        patients = ledgers.Patients(namespace.ids(train), namespace.ids(evaluation))
    anchored = section.anchor_file if isinstance(store, FileStore) else None
    return Ledger(
        store,
        site=config.site.name,
        cap_epsilon=config.policy.max_epsilon_lifetime,
        cap_everybody=config.policy.max_epsilon_everybody or math.inf,
        delta=config.policy.delta,
        population=ledgers.Population(plan.split_salt, plan.evaluation_fraction, patients),
        unit=plan.privacy.unit,
        namespace=namespace,
        anchor=None if anchored is None else ledgers.AnchorFile(Path(anchored)),
    )


@dataclass(eq=False, repr=False)
class Daemon:
    """One hospital's process."""

    config: ClientConfig
    stop: threading.Event  # set by a signal handler, and by the STOP file, too
    _: KW_ONLY
    leave: Callable[[int], object] = os._exit  # ends the process at once, after the grace period
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._folders, self._done, self._alive = SiteFolders(self.config.folder), threading.Event(), self.clock()

    def run(self) -> None:
        """Serves until stopped.

        Raises StoppedError FW-STOP-301 (the STOP file was there at the start, or appeared), FolderInUseError (another
        daemon uses the state folder), ResourceError FW-RESOURCE-303 (something that it writes cannot be written),
        VersionError FW-VERSION-307 (a later release wrote the state folder), AuthenticationError FW-AUTH-302 and others
        (the site is not set up).
        """
        folders = self._folders
        folders.make()
        self._refuse_stop_file()
        check_places(written(self.config, folders))
        lock = FolderLock(folders.root)
        HOSPITAL.settle(folders.root)
        status = Status(folders.status_file)
        status.state("starting")  # `stop` ends the process that is named here, so no earlier one may stay named
        watcher = threading.Thread(target=self._watch, name="stop", daemon=True)
        watcher.start()
        try:
            self._serve(status)
        finally:
            status.state("stopped")
            self._done.set()
            watcher.join()
            lock.release()
            notify("STOPPING=1")
        self._refuse_stop_file()

    def _serve(self, status: Status) -> None:
        config, folders = self.config, self._folders
        torch.set_num_threads(config.limits.threads)

        def on_leg(run: str, leg: str) -> None:
            self._beat()
            status.leg(run, leg)

        site = ApprovedSite(config, folders, self.stop, on_leg=on_leg, on_refusal=status.refused)
        approved_roster(folders, config, folders.identity(config.site.name))
        key = folders.node_key()
        endpoint = endpoint_of(config, folders)
        try:
            site.warm()
        except FedwardError as error:
            LOG.warning("the run this site was in is not open: %s", error.code)
            status.refused("start", error.code)
        notify("READY=1")
        status.state("connecting")
        LOG.info("serving as %s", config.site.name)
        try:
            serve(
                make_client_app(site, lambda notice: status.waiting(notice.run, notice.waits_for)),
                endpoint,
                stop=self.stop,
                keys=(key, key.public_key()),
                limits=config.link_limits,
                node_file=folders.node_file,
                on_online=status.online,
                on_poll=self._beat,
            )
        finally:
            site.close()

    def _beat(self) -> None:
        self._alive = self.clock()

    def _watch(self) -> None:
        """Looks for the STOP file, feeds the service manager's watchdog, and enforces the grace period."""
        while not self.stop.is_set() and not self._done.wait(WATCH_SECONDS):
            if self._folders.stop_file.exists():
                LOG.warning("STOP file found")
                self.stop.set()
            if self.clock() - self._alive < STALL_SECONDS:
                notify("WATCHDOG=1")
        if not self._done.wait(GRACE_SECONDS):
            LOG.warning("ended in the middle of its work")
            Status(self._folders.status_file).state("stopped")
            notify("STOPPING=1")
            self.leave(StoppedError.row().exit_code if self._folders.stop_file.exists() else 0)

    def _refuse_stop_file(self) -> None:
        if self._folders.stop_file.exists():
            raise StoppedError("This site was stopped by its STOP file.", code="FW-STOP-301")
