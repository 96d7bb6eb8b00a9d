"""Runs at the coordinator: submitted, queued, running, ended; each in a folder that a restart finds again.

At most one run is active. A run that was active when its process ended is not left so: the server takes it up
again from its journal when it starts, at most a configured number of times.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fedward.agreements.code import check_core, check_plan_code
from fedward.agreements.proposal import RUN_NAME, PlanTerms
from fedward.config import Section, parse, to_toml
from fedward.errors import ConfigError, IntegrityError, PolicyError, RunFailedError, StoppedError
from fedward.privacy.secagg.roster import verify_roster
from fedward.run import Schedule, check_roster
from fedward.server.deployment.folders import ServerFolders
from fedward.server.deployment.plans import SIGNED_FILE, START_FILE, check_start, read_signed
from fedward.server.deployment.sites import SiteRecord
from fedward.server.job_files import PROGRESS, FederationJob, RunEnd
from fedward.storage import private_folder, replace_private, sync_folder

State = Literal["queued", "running", "paused", "completed", "failed", "aborted"]
RECORD = "run.json"
JOB = "job.json"
RESULT = "adapter.safetensors"


class RunRecord(Section):
    """One run. ``flower_run`` is Flower's id for its present process; ``code`` says why it failed."""

    name: str
    state: State
    plan_hash: str
    sites: list[str]
    submitted: int
    ended: int | None = None
    flower_run: int | None = None
    restarts: Annotated[int, Field(ge=0)] = 0
    exit_status: int = 0
    code: str = ""

    @property
    def open(self) -> bool:
        """Whether it still has to end."""
        return self.state in ("queued", "running", "paused")


class Runs:
    """All runs of a coordinator, in its state folder."""

    def __init__(self, folders: ServerFolders, *, clock: Callable[[], float] = time.time) -> None:
        self._folders, self._clock = folders, clock

    def submit(
        self, plan_folder: Path, roster: bytes, sites: list[SiteRecord], *, coordinator: bytes, discover_seconds: float
    ) -> RunRecord:
        """Queues the signed plan in ``plan_folder`` with the roster that all its hospitals have approved.

        Raises:
            ConfigError: FW-CONFIG-312, the run's name was used before.
            PolicyError: FW-POLICY-312, see the table.
            ConfigError (FW-CONFIG-311, FW-CONFIG-212), AuthenticationError (FW-AUTH-304), IntegrityError
                (FW-INTEGRITY-312): see the table.
        """
        signed = read_signed(plan_folder, coordinator)
        proposal = signed.proposal
        if proposal.expires < self._clock():
            raise IntegrityError(
                "The signed plan has expired.", code="FW-INTEGRITY-312", fix="Sign it again under a new name."
            )
        folder = self.folder(proposal.run)
        if folder.exists():
            raise ConfigError(f"A run called {proposal.run} exists already.", code="FW-CONFIG-312")
        _check_roster(roster, sites, signed.proposal.terms)
        check_start(plan_folder, proposal.terms)
        names = sorted(verify_roster(roster).roster.keys)
        draft = private_folder(folder.with_name(f".{proposal.run}"))
        shutil.copyfile(plan_folder / SIGNED_FILE, draft / SIGNED_FILE)
        shutil.copyfile(plan_folder / START_FILE, draft / START_FILE)
        plan = json.loads(proposal.terms.plan)
        replace_private(draft / "plan.toml", to_toml(plan).encode())
        replace_private(draft / "roster.cbor", roster)
        job = self._job(proposal.run, discover_seconds)
        replace_private(draft / JOB, job.model_dump_json(indent=2).encode())
        record = RunRecord(
            name=proposal.run,
            state="queued",
            plan_hash=proposal.terms.plan_hash.hex(),
            sites=names,
            submitted=int(self._clock()),
        )
        replace_private(draft / RECORD, record.model_dump_json(indent=2).encode())
        draft.replace(folder)
        sync_folder(folder.parent)
        return record

    def folder(self, run: str) -> Path:
        """Where everything of a run lies."""
        return self._folders.runs / run

    def get(self, run: str) -> RunRecord:
        """One run; raises FW-CONFIG-312."""
        path = self.folder(run) / RECORD
        if RUN_NAME.fullmatch(run) is None or not path.exists():
            raise ConfigError(f"There is no run called {run[:64]}.", code="FW-CONFIG-312")
        return parse(json.loads(path.read_bytes()), RunRecord, source=RECORD)

    def all(self) -> list[RunRecord]:
        """Every run, the oldest first."""
        names = [path.parent.name for path in self._folders.runs.glob(f"*/{RECORD}")]
        return sorted((self.get(name) for name in names if not name.startswith(".")), key=lambda run: run.submitted)

    def next_open(self) -> RunRecord | None:
        """The run that is active; else one that is paused, which keeps its place; else the oldest that waits."""
        order = ("running", "paused", "queued")
        waiting = [run for run in self.all() if run.open]
        return min(waiting, key=lambda run: (order.index(run.state), run.submitted), default=None)

    def started(self, run: RunRecord, flower_run: int) -> RunRecord:
        """Notes that Flower runs it."""
        return self._save(run, state="running", flower_run=flower_run)

    def interrupted(self, run: RunRecord, *, max_restarts: int) -> RunRecord:
        """Queues a run again whose process was lost, or ends it after too many such losses."""
        if run.restarts >= max_restarts:
            end = RunEnd(RunFailedError.row().exit_code, RunFailedError.code)
            return self.ended(run, end)
        return self._save(run, state="queued", flower_run=None, restarts=run.restarts + 1)

    def queued_again(self, run: RunRecord) -> RunRecord:
        """Queues the active run again because the operator stopped the server."""
        return self._save(run, state="queued", flower_run=None)

    def paused(self, run: RunRecord) -> RunRecord:
        """Sets a run aside until it is resumed; its journal keeps the leg where it stood.

        Raises:
            PolicyError: FW-POLICY-313, it has ended.
        """
        return self._save(_not_ended(run), state="paused", flower_run=None)

    def resumed(self, run: RunRecord) -> RunRecord:
        """Queues a paused run again; does nothing to one that is queued or running.

        Raises:
            PolicyError: FW-POLICY-313, it has ended.
        """
        return self._save(run, state="queued") if _not_ended(run).state == "paused" else run

    def ended(self, run: RunRecord, end: RunEnd) -> RunRecord:
        """Notes how it ended."""
        state: State = "completed" if end.exit_status == 0 else "failed"
        return self._save(run, state=state, ended=int(self._clock()), exit_status=end.exit_status, code=end.code)

    def aborted(self, run: RunRecord) -> RunRecord:
        """Notes that the operator ended it."""
        end = {"ended": int(self._clock()), "exit_status": StoppedError.row().exit_code, "code": StoppedError.code}
        return self._save(run, state="aborted", **end)

    def moved(self, run: RunRecord, home: ServerFolders) -> RunRecord:
        """Points an open run, which lies here, to where its folders will be, and leaves it paused."""
        job = self.folder(run.name) / JOB
        seconds = parse(json.loads(job.read_bytes()), FederationJob, source=JOB).discover_seconds
        replace_private(job, Runs(home)._job(run.name, seconds).model_dump_json(indent=2).encode())
        return self.paused(run)

    def _save(self, run: RunRecord, **changes: object) -> RunRecord:
        changed = run.model_copy(update=changes)
        replace_private(self.folder(run.name) / RECORD, changed.model_dump_json(indent=2).encode())
        return changed

    def _job(self, run: str, discover_seconds: float) -> FederationJob:
        folder = self.folder(run)
        return FederationJob(
            kind="federation",
            run=run,
            plan=str(folder / "plan.toml"),
            signed=str(folder / SIGNED_FILE),
            roster=str(folder / "roster.cbor"),
            identity=str(self._folders.identity_file),
            start=str(folder / START_FILE),
            state=str(folder / "journal"),
            journal_key=str(self._folders.journal_key),
            result=str(folder / RESULT),
            discover_seconds=discover_seconds,
        )


def describe(runs: Runs, run: RunRecord) -> dict[str, Any]:
    """A run with its progress, for people and programs."""
    progress: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        progress = json.loads((runs.folder(run.name) / PROGRESS).read_bytes())
    return {**run.model_dump(), "round": progress.get("round", 0), "rounds": progress.get("rounds")}


def _not_ended(run: RunRecord) -> RunRecord:
    if not run.open:
        raise PolicyError(f"The run {run.name} has ended: {run.state}.", code="FW-POLICY-313")
    return run


def _check_roster(roster: bytes, sites: list[SiteRecord], terms: PlanTerms) -> None:
    verified = verify_roster(roster)
    missing = sorted(verified.roster.keys.keys() - verified.approved)
    if missing:
        raise PolicyError(f"The roster is not approved by {', '.join(missing)}.", code="FW-POLICY-312")
    admitted = {site.name: site.identity for site in sites if site.state == "admitted"}
    strangers = [name for name, key in verified.roster.keys.items() if admitted.get(name) != key.hex()]
    if strangers:
        raise PolicyError(
            f"The roster names sites that are not admitted: {', '.join(strangers)}.", code="FW-POLICY-312"
        )
    pins = (verified.roster.base_model_hash, verified.roster.adapter_layout_hash)
    if pins != (terms.base_model_hash, terms.adapter_layout_hash):
        raise PolicyError("The roster pins another model or adapter than the plan.", code="FW-POLICY-312")
    check_core(verified.roster.code_hash)
    plan = terms.read()
    check_plan_code(plan, terms.family, terms.code_hash)
    check_roster(Schedule.of(plan), verified.roster.keys, min_cohort=verified.roster.policy.min_cohort)
