"""The hospital as the coordinator meets it: one approved run at a time, opened when it is invited to, or refused.

Everything about a run lies in its own folder: journal and adapters. Ledger and approvals are the site's. The
run's name comes from the coordinator's signed invitation; all else is read from files of this machine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fedward.agreements.proposal import VerifiedProposal
from fedward.client.daemon.approvals import Approvals, approved_roster, check_family, check_proposal, check_size
from fedward.client.daemon.folders import SiteFolders
from fedward.client.daemon.keys import pinned_coordinator
from fedward.client.daemon.settings import ClientConfig
from fedward.client.data import load_examples, split_patients
from fedward.client.hospital import Hospital, local_policy
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import ModelConfig, ModelFiles, resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.errors import PolicyError, StoppedError
from fedward.plan import Plan
from fedward.privacy.ledger import (
    AnchorFile,
    FileStore,
    Ledger,
    LedgerStore,
    MemoryStore,
    Namespace,
    Patients,
    Population,
    RoundCost,
)
from fedward.privacy.secagg import FileJournal, Journal, LocalPolicy, MemoryJournal, SecAggClient
from fedward.privacy.secagg.crypto import journal_key, open_sealed
from fedward.privacy.secagg.messages import EpochInvite
from fedward.privacy.secagg.roster import VerifiedRoster
from fedward.run import Run
from fedward.stages import Reply, Request, Stage
from fedward.storage import read_limited, replace_private

LOG = logging.getLogger(__name__)
_CURRENT = "current-run"


class NoRunError(PolicyError):
    """A leg was asked for before any run was opened at this site."""

    code = "FW-POLICY-309"


@dataclass(frozen=True)
class Prepared:
    """What is read and built once: the resolved plan, the base model's files and this site's encoded records."""

    run: Run
    files: ModelFiles
    train: Records
    evaluation: Records


@dataclass(frozen=True)
class OpenRun:
    """The run that is being served, and what locks its folders."""

    name: str
    hospital: Hospital
    journals: tuple[FileJournal, FileJournal]

    def close(self) -> None:
        """Frees the folders."""
        for journal in self.journals:
            journal.close()


class ApprovedSite:
    """What the daemon serves; see :class:`fedward.client.flower.Site`.

    Args:
        config: of the site.
        folders: of the site.
        stop: ends training at its next step.
        on_leg: told the run and leg that is being answered; also that a step was taken.
    """

    def __init__(
        self,
        config: ClientConfig,
        folders: SiteFolders,
        stop: threading.Event,
        *,
        on_leg: Callable[[str, str], None] = lambda run, leg: None,
    ) -> None:
        self.name = config.site.name
        self._config, self._folders, self._stop, self._on_leg = config, folders, stop, on_leg
        self._identity = folders.identity(self.name)
        self._coordinator = pinned_coordinator(folders).coordinator
        self.approvals = Approvals(config, folders, self._identity)
        self._open: OpenRun | None = None
        self._prepared: dict[bytes, Prepared] = {}

    def answer(self, request: Request) -> Reply:
        """Handles one leg.

        Raises:
            FedwardError: a refusal; its code is all that may leave.
        """
        if self._stop.is_set():
            raise StoppedError("This site was stopped.")
        run = self._invited(request.payload) if request.stage is Stage.JOIN else self._current()
        self.approvals.require(run)
        self._on_leg(run, request.stage)
        return self._serve(run).hospital.answer(request)

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
        if self._open is not None:
            self._open.close()
            self._open = None

    def rehearse(self, run: str) -> tuple[int, int]:
        """Does all that precedes the first training step of an approved run, on copies; returns how many units it has.

        Returns:
            Training and evaluation units.

        Raises:
            FedwardError: what would stop the run.
        """
        verified = self.approvals.require(run)
        check_proposal(verified, self._config, now=verified.proposal.made)
        copy = MemoryStore()
        copy.links = FileStore(self._folders.ledger).load()
        self._build(verified, MemoryJournal(), None, copy)
        prepared = self._prepare(verified.plan)
        return len(set(prepared.train.names)), len(set(prepared.evaluation.names))

    def _invited(self, sealed: bytes) -> str:
        return EpochInvite.from_bytes(open_sealed("epoch-invite", sealed, self._coordinator)).run

    def _current(self) -> str:
        if self._open is not None:
            return self._open.name
        path = self._folders.root / _CURRENT
        if not path.exists():
            raise NoRunError("No run is open at this site.")
        return read_limited(path, 64).decode("ascii", "replace")

    def _serve(self, run: str) -> OpenRun:
        if self._open is not None and self._open.name == run:
            return self._open
        verified = self.approvals.require(run)
        check_proposal(verified, self._config, now=verified.proposal.made)
        self.close()
        journal = FileJournal(self._folders.run(run), journal_key(self._folders.journal_key(), f"run/{run}"))
        adapters = journal.beside("adapters")
        try:
            hospital = self._build(verified, journal, adapters, FileStore(self._folders.ledger))
        except BaseException:
            journal.close()
            adapters.close()
            raise
        replace_private(self._folders.root / _CURRENT, run.encode("ascii"))
        self._open = OpenRun(run, hospital, (journal, adapters))
        LOG.info("run %s is open", run)
        return self._open

    def _build(
        self, verified: VerifiedProposal, journal: Journal, adapters: Journal | None, store: LedgerStore
    ) -> Hospital:
        signed, roster = approved_roster(self._folders, self._config, self._identity)
        prepared = self._prepare(verified.plan)
        check_family(verified, prepared.files.config().family.name)
        run, model = prepared.run, build_model(prepared.run, prepared.files, site=self.name)
        policy = self._pins(run, model.config, roster, verified.proposal.run)
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
            microbatch=self._config.limits.microbatch,
            between_steps=self._between_steps,
        )

    def _pins(self, run: Run, config: ModelConfig, verified: VerifiedRoster, name: str) -> LocalPolicy:
        roster = verified.roster
        return local_policy(
            run,
            config,
            hospitals=len(roster.members),
            colluders=roster.colluders,
            min_cohort=max(self._config.policy.min_cohort, roster.policy.min_cohort),
            name=name,
        )

    def _prepare(self, plan: Plan) -> Prepared:
        if plan.hash() not in self._prepared:
            tables, length = self._config.tables, plan.adapter.max_tokens
            files = resolve(plan.base_model)
            run = resolve_run(plan, files.config())
            task, model = local_task(run.task.name), build_model(run, files, site=self.name)
            examples = load_examples(
                self._config.data_folder, format=tables.format, task=plan.task, leave_out=tables.leave_out
            )
            parts = split_patients(examples, evaluation_fraction=plan.evaluation_fraction, salt=plan.split_salt)
            check_size(parts[0], self._config.policy, plan.privacy.unit)
            train, evaluation = (Records.encode(part, task, files, model, max_tokens=length) for part in parts)
            self._prepared = {plan.hash(): Prepared(run, files, train, evaluation)}
        return self._prepared[plan.hash()]

    def _ledger(
        self, verified: VerifiedProposal, roster: VerifiedRoster, store: LedgerStore, prepared: Prepared, rounds: int
    ) -> Ledger | None:
        """The site's ledger, after it was made sure that the whole run fits; None for a plan that charges nothing."""
        plan = verified.plan
        if not plan.privacy.private:
            return None
        names = {"train": prepared.train.names, "evaluation": prepared.evaluation.names}
        ledger = open_site_ledger(self._config, store, plan, **names)
        schedule, run, sites = prepared.run, verified.proposal.run, roster.roster.keys
        numbers = [number for number in range(1, rounds + 1) if self.name in schedule.cohort(number, sites)]
        # Rounds whose output has left were paid for; only what is still to come has to fit.
        coming = [number for number in numbers if not _settled(ledger, run, number)]
        costs = [RoundCost(n, schedule.training_events(n), schedule.evaluation_events(n)) for n in coming]
        ledger.preflight(run=run, plan_hash=plan.hash(), rounds=costs)
        return ledger

    def _between_steps(self) -> None:
        if self._stop.is_set():
            raise StoppedError("This site was stopped.")
        self._on_leg(self._open.name if self._open else "", "training")


def _settled(ledger: Ledger, run: str, number: int) -> bool:
    recorded = ledger.book.reservation(run, number)
    return recorded is not None and recorded.settled


def open_site_ledger(
    config: ClientConfig, store: LedgerStore, plan: Plan, *, train: Iterable[str], evaluation: Iterable[str]
) -> Ledger:
    """Opens the ledger in ``store`` for a run of ``plan``, or begins it.

    Args:
        config: of the site.
        store: the site's own; on a copy in memory the anchor is left alone.
        plan: says which units it prices, and how they are split.
        train: identifiers of the training units that can be sampled; hashed only where a namespace is declared.
        evaluation: the same of the evaluation units.

    Raises:
        ConfigError: FW-LEDGER-008, the key of the namespace cannot be used.
        PolicyError (FW-LEDGER-004, FW-LEDGER-010), IntegrityError (FW-LEDGER-002, FW-LEDGER-001), ResourceError
            (FW-LEDGER-006): see the classes.
    """
    section, namespace, patients = config.ledger, None, None
    if section.namespace is not None and section.namespace_key is not None:
        namespace = Namespace.from_file(section.namespace, Path(section.namespace_key))
        patients = Patients(namespace.ids(train), namespace.ids(evaluation))
    anchor = None
    if section.anchor_file is not None and isinstance(store, FileStore):
        anchor = AnchorFile(Path(section.anchor_file))
    return Ledger(
        store,
        site=config.site.name,
        cap_epsilon=config.policy.max_epsilon_lifetime,
        delta=config.policy.delta,
        population=Population(plan.split_salt, plan.evaluation_fraction, patients),
        unit=plan.privacy.unit,
        namespace=namespace,
        anchor=anchor,
    )
