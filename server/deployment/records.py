"""Hospitals, plans and runs at the coordinator: records in its state folder, which are the truth.

Who was invited, admitted and revoked stands in one file per hospital, which the SuperLink follows. A plan folder is
checked against its adapter, signed, and turned into the roster's pins. A run of a signed plan is submitted, queued,
running, ended; each lies in a folder that a restart finds again. At most one run is active. A run ends when its plan
ends it or a person does. Where it only lacks something (hospitals, its process, disk space) it waits, says for whom and
why, and is taken up again from its journal after pauses that grow.
"""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cryptography import x509
from pydantic import Field

from fedward.adapter import adapter_hash
from fedward.agreements import enrolment
from fedward.agreements.code import check_core, check_plan_code, core_hash
from fedward.agreements.proposal import (
    RUN_NAME,
    PlanTerms,
    Proposal,
    VerifiedProposal,
    open_proposal,
    read_terms,
    sign_proposal,
)
from fedward.config import Section, load_toml, parse, to_toml
from fedward.errors import (
    AuthenticationError,
    ConfigError,
    IntegrityError,
    PolicyError,
    QuorumError,
    StoppedError,
    VersionError,
    group_of,
)
from fedward.failpoints import failpoint
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity, fingerprint, secagg_hash
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, publish, verify_roster
from fedward.run import Schedule, check_roster, roster_rules
from fedward.schema import Schema, keep_copy
from fedward.server.deployment.settings import Authority, ServerFolders
from fedward.server.job_files import ABSENT, COORDINATOR, PROGRESS, FederationJob, LostProcessError, RunEnd, read_vector
from fedward.storage import PUBLIC, private_folder, read_limited, replace_file, replace_private, sync_folder
from fedward.strategies.combinations import check_ranks
from fedward.strategies.registry import in_words

PLAN_FILE = "plan.toml"
START_FILE = "start.safetensors"
SIGNED_FILE = "plan.fedward"
MAX_FILE_BYTES = 256 * 1024
DAY_SECONDS = 86_400
LEAST_SITES = 3
EPOCH_DAYS = 30  # age at which a key epoch ends

RECORD = "run.json"
JOB = "job.json"
RESULT = "adapter.safetensors"

Kind = TypeVar("Kind", bound=Section)
_HEX = r"^[0-9a-f]*$"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Invite(Section):
    """An open invitation; ``key`` is a hash of the code, from which the code cannot be found."""

    site: str
    key: Annotated[str, Field(pattern=_HEX)]
    expires: int


class SiteRecord(Section):
    """One hospital. ``node_key`` is its Flower node's public key, DER in hex; ``serials`` of certificates issued."""

    name: str
    state: Literal["admitted", "revoked"]
    identity: Annotated[str, Field(pattern=_HEX)]
    node_key: Annotated[str, Field(pattern=_HEX)]
    since: int
    expires: int
    serials: list[str]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its signing key, as the roster shows it."""
        return fingerprint(bytes.fromhex(self.identity))


class Sites:
    """The hospitals of a coordinator, in its state folder. Reading raises FW-INTEGRITY-311 (a file is damaged)."""

    def __init__(self, folders: ServerFolders, *, clock: Callable[[], float] = time.time) -> None:
        self._folders, self._clock = folders, clock

    def invite(self, site: str, *, hours: int) -> str:
        """A one-time code for ``site``; an older invitation ends. Raises FW-POLICY-311 (no possible or fresh name)."""
        if _NAME.fullmatch(site) is None or site == COORDINATOR:
            message = "The name of a site is lower-case letters, digits and dashes, at most 63 of them."
            fix = "Agree on such a name with the hospital; it writes the same into site.name of its client.toml."
            raise PolicyError(message, code="FW-POLICY-311", fix=fix)
        if self._path(site).exists():
            fix = "Names are never used twice: invite it under a new one. To renew a certificate, no code is needed."
            raise PolicyError(f"There is a site called {site} already.", code="FW-POLICY-311", fix=fix)
        code = enrolment.new_code()
        invite = Invite(site=site, key=enrolment.code_key(code).hex(), expires=int(self._clock()) + hours * 3600)
        replace_private(self._folders.invites / f"{site}.json", invite.model_dump_json().encode())
        return code

    def accept(
        self, data: bytes, *, spoken: str, federation: str, identity: Identity, authority: Authority, days: int
    ) -> tuple[SiteRecord, bytes]:
        """Admits the site behind the request file ``data`` to the next roster, or renews its certificate for ``days``.

        ``spoken`` is the file's fingerprint as the site read it out. Returns the site, and the answer file for it.
        Raises FW-AUTH-303 (the request is malformed), FW-AUTH-313 (it has another fingerprint), FW-AUTH-312 (no open
        invitation), FW-AUTH-311 (its CSR), FW-POLICY-311 (other keys, a key of another site, or a revoked one).
        """
        request, outer = enrolment.open_request(data)
        if not enrolment.same_fingerprint(enrolment.request_fingerprint(data), spoken):
            raise AuthenticationError("The request has another fingerprint than the site read out.", code="FW-AUTH-313")
        known = self._path(request.site).exists()
        key = b"" if known else self._invited(request, outer)
        if known:
            self._check_renewal(request)
        certificate = authority.issue_site(request.site, request.csr, days=days)
        answer = enrolment.EnrolmentAnswer(
            federation=federation,
            site=request.site,
            request=secagg_hash("enrolment-request", outer.sealed),
            coordinator=identity.public,
            certificate=certificate,
            ca=authority.certificate.read_bytes(),
        )
        issued = x509.load_pem_x509_certificate(certificate)
        record = SiteRecord(
            name=request.site,
            state="admitted",
            identity=request.identity.hex(),
            node_key=request.node_key.hex(),
            since=int(self._clock()),
            expires=int(issued.not_valid_after_utc.timestamp()),
            serials=[*(self.get(request.site).serials if known else ()), f"{issued.serial_number:x}"],
        )
        _write(self._path(record.name), record)
        (self._folders.invites / f"{request.site}.json").unlink(missing_ok=True)
        return record, enrolment.seal_answer(answer, identity, key)

    def revoke(self, site: str) -> SiteRecord:
        """Shuts a site out for good: its node is refused from its next request on; raises like :meth:`get`."""
        record = self.get(site).model_copy(update={"state": "revoked"})
        _write(self._path(record.name), record)
        return record

    def get(self, site: str) -> SiteRecord:
        """One site; raises FW-POLICY-311 (there is no such site)."""
        path = self._path(site)
        if _NAME.fullmatch(site) is None or not path.exists():
            raise PolicyError(f"There is no site called {site[:64]}.", code="FW-POLICY-311")
        return _read(path, SiteRecord)

    def all(self) -> list[SiteRecord]:
        """Every site, by name."""
        return [_read(path, SiteRecord) for path in sorted(self._folders.sites.glob("*.json"))]

    def open_invites(self) -> list[Invite]:
        """Invitations that can still be used."""
        found = [_read(path, Invite) for path in sorted(self._folders.invites.glob("*.json"))]
        return [invite for invite in found if invite.expires >= self._clock()]

    def _path(self, site: str) -> Path:
        return self._folders.sites / f"{site}.json"

    def _invited(self, request: enrolment.EnrolmentRequest, outer: enrolment.Proven) -> bytes:
        path = self._folders.invites / f"{request.site}.json"
        if not path.exists():
            message = "The site of this request was not invited, or its invitation was used."
            raise AuthenticationError(message, code="FW-AUTH-312")
        invite = _read(path, Invite)
        if invite.expires < self._clock():
            raise AuthenticationError("The invitation of this site has expired.", code="FW-AUTH-312")
        key = bytes.fromhex(invite.key)
        enrolment.check_proof(outer, key)
        if any(record.identity == request.identity.hex() for record in self.all()):
            raise PolicyError("Another site has this signing key.", code="FW-POLICY-311")
        return key

    def _check_renewal(self, request: enrolment.EnrolmentRequest) -> None:
        record = self.get(request.site)
        if record.state == "revoked":
            raise PolicyError(f"The site {request.site} was revoked.", code="FW-POLICY-311")
        if (record.identity, record.node_key) != (request.identity.hex(), request.node_key.hex()):
            raise PolicyError(f"The site {request.site} is admitted under other keys.", code="FW-POLICY-311")


def sign_folder(
    folder: Path, *, run: str, federation: str, identity: Identity, days: int, now: float | None = None
) -> VerifiedProposal:
    """Signs the plan in ``folder`` for one run and writes ``plan.fedward``, the file hospitals are sent.

    Raises FW-CONFIG-312 (no possible name), FW-INTEGRITY-312 (the adapter to start from is not that of the plan, or the
    plan was edited), FW-VERSION-301, FW-AUTH-304 (the terms are not readable), FW-VERSION-304 (made with other code).
    """
    if RUN_NAME.fullmatch(run) is None:
        words = "The name of a run is lower-case letters, digits and dashes."
        raise ConfigError(words, code="FW-CONFIG-312", fix="Choose another name.")
    terms = _checked(folder)
    made = int(time.time() if now is None else now)
    proposal = Proposal(federation, run, terms, made, made + days * DAY_SECONDS)
    sealed = sign_proposal(proposal, identity)
    replace_file(folder / SIGNED_FILE, sealed, mode=PUBLIC)
    return open_proposal(sealed, identity.public)


def check_folder(folder: Path) -> dict[str, str | int | float]:
    """Facts about a plan folder that holds together; raises like :func:`sign_folder`."""
    terms = _checked(folder)
    plan, privacy = terms.read(), terms.read().privacy
    counts = plan.statistics
    promised = f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} per {privacy.unit}"
    trained: dict[str, str | int | float] = {
        "strategy": in_words(plan),
        "base_model": f"{plan.base_model} (sha256:{plan.base_model_sha256})",
        "rounds": plan.training.rounds,
        "parameters": terms.parameters,
    }
    if counts is not None:
        trained = {"statistics": ", ".join(counts.variables), "trains": "nothing"}
    return {
        "name": plan.name,
        "task": plan.task,
        **trained,
        "privacy": promised if privacy.private else "NONE",
        "noise": privacy.placement if counts is None else "a share of each hospital",
        "core": core_hash().hex(),
        "code": terms.code_hash.hex(),
        "signed": "yes" if (folder / SIGNED_FILE).exists() else "no",
    }


def _checked(folder: Path) -> PlanTerms:
    terms = read_terms(folder)
    check_plan_code(terms.read(), terms.family, terms.code_hash)
    check_start(folder, terms)
    if load_toml(folder / PLAN_FILE, Plan).hash() != terms.plan_hash:
        raise IntegrityError("plan.toml is not the plan of the terms; it was edited.", code="FW-INTEGRITY-312")
    return terms


def check_start(folder: Path, terms: PlanTerms) -> None:
    """Refuses another adapter to start from than the plan names: FW-CONFIG-212 (no safetensors), FW-INTEGRITY-312."""
    layout, start = read_vector(folder / START_FILE)
    if (layout.hash(), adapter_hash(start, layout)) != (terms.adapter_layout_hash, terms.initial_adapter_hash):
        raise IntegrityError("The adapter to start from is not the one that the plan names.", code="FW-INTEGRITY-312")


def read_signed(folder: Path, coordinator: bytes) -> VerifiedProposal:
    """The signed plan of ``folder``; raises FW-CONFIG-311 (there is none), FW-AUTH-304, FW-VERSION-301."""
    path = folder / SIGNED_FILE
    if not path.exists():
        raise ConfigError("The plan folder holds no signed plan.", code="FW-CONFIG-311")
    return open_proposal(read_limited(path, MAX_FILE_BYTES), coordinator)


def publish_roster(
    sites: Sequence[SiteRecord], proposal: VerifiedProposal, identity: Identity, *, min_cohort: int | None = None
) -> bytes:
    """The next roster: every admitted site, pinned to a signed plan's model and adapter and to the core here.

    ``min_cohort`` is the smallest first cohort, the smallest that is safe if absent. Raises FW-POLICY-314 (fewer than
    three hospitals are admitted), FW-STRATEGY-013, FW-STRATEGY-019 (the plan does not fit them), FW-SECAGG-010 (the
    cohort does not fit them).
    """
    members = [Member(site.name, bytes.fromhex(site.identity)) for site in sites if site.state == "admitted"]
    if len(members) < LEAST_SITES:
        message = f"A roster needs {LEAST_SITES} admitted hospitals; there are {len(members)}."
        raise PolicyError(message, code="FW-POLICY-314")
    check_ranks(proposal.plan, [member.name for member in members])
    colluders, smallest = roster_rules(Schedule.of(proposal.plan), len(members), min_cohort=min_cohort)
    terms = proposal.proposal.terms
    roster = Roster(
        federation=proposal.proposal.federation,
        coordinator=identity.public,
        members=tuple(sorted(members, key=lambda member: member.name)),
        colluders=colluders,
        policy=RunPolicy(min_cohort=smallest, epoch_days=EPOCH_DAYS, unsafe_two_party=False),
        base_model_hash=terms.base_model_hash,
        adapter_layout_hash=terms.adapter_layout_hash,
        code_hash=core_hash(),
    )
    return publish(roster, identity)


State = Literal["queued", "running", "waiting", "paused", "completed", "failed", "aborted"]
_OPEN: tuple[State, ...] = ("running", "waiting", "paused", "queued")
"""States of a run that still has to end, in the order in which runs are looked after."""

LONGEST_WAIT_SECONDS = 60


class RunRecord(Section):
    """One run. ``flower_run`` is Flower's id for its present process; ``code`` says why it failed, or waits."""

    name: str
    state: State
    plan_hash: str
    sites: list[str]
    submitted: int
    expires: int | None = None  # the signed plan's last second since 1970; a run that waits ends then
    ended: int | None = None
    flower_run: int | None = None
    restarts: Annotated[int, Field(ge=0)] = 0  # processes that were lost, in all
    tries: Annotated[int, Field(ge=0)] = 0  # processes that ended one after another without a finished round between
    stood_at: Annotated[int, Field(ge=0)] = 0  # the last finished round when the last of them ended
    again: int | None = None  # second since 1970 at which a waiting run is tried next
    # code by hospital that did not answer, or refused, when the last process ended
    waits_for: dict[str, str] = Field(default_factory=dict)
    exit_status: int = 0
    code: str = ""

    @property
    def open(self) -> bool:
        """Whether it still has to end."""
        return self.state in _OPEN


def is_absence(end: RunEnd) -> bool:
    """Whether a process ended for want of something that may come back: hospitals, the way to them, room on a disk, or
    the release that the run began with."""
    return end.code in (QuorumError.code, "FW-TIME-002") or group_of(end.code) in ("NET", "RESOURCE", "VERSION")


class Runs:
    """All runs of a coordinator, in its state folder."""

    def __init__(self, folders: ServerFolders, *, clock: Callable[[], float] = time.time) -> None:
        self._folders, self._clock = folders, clock

    def submit(
        self, plan_folder: Path, roster: bytes, sites: list[SiteRecord], *, coordinator: bytes, discover_seconds: float
    ) -> RunRecord:
        """Queues the signed plan in ``plan_folder`` with the roster that all its hospitals have approved.

        Raises FW-CONFIG-312 (the run's name was used before), FW-POLICY-312 (the roster is not theirs or the plan's),
        FW-INTEGRITY-312 (the plan has expired), or like :func:`read_signed` and :func:`check_start`.
        """
        proposal = read_signed(plan_folder, coordinator).proposal
        if proposal.expires < self._clock():
            fix = "Sign it again under a new name."
            raise IntegrityError("The signed plan has expired.", code="FW-INTEGRITY-312", fix=fix)
        folder = self.folder(proposal.run)
        if folder.exists():
            raise ConfigError(f"A run called {proposal.run} exists already.", code="FW-CONFIG-312")
        _check_roster(roster, sites, proposal.terms)
        check_start(plan_folder, proposal.terms)
        draft = private_folder(folder.with_name(f".{proposal.run}"))
        for name in (SIGNED_FILE, START_FILE):
            shutil.copyfile(plan_folder / name, draft / name)
        replace_private(draft / "plan.toml", to_toml(json.loads(proposal.terms.plan)).encode())
        replace_private(draft / "roster.cbor", roster)
        _write(draft / JOB, self._job(proposal.run, discover_seconds))
        record = RunRecord(
            name=proposal.run,
            state="queued",
            plan_hash=proposal.terms.plan_hash.hex(),
            sites=sorted(verify_roster(roster).roster.keys),
            submitted=int(self._clock()),
            expires=proposal.expires,
        )
        _write(draft / RECORD, record)
        RUN.settle(draft)
        failpoint("submit", "before")
        draft.replace(folder)
        sync_folder(folder.parent)
        failpoint("submit", "after")
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
        """The run that is active; else one that waits or is paused, which keeps its place; else the oldest queued."""
        found = [run for run in self.all() if run.open]
        return min(found, key=lambda run: (_OPEN.index(run.state), run.submitted), default=None)

    def started(self, run: RunRecord, flower_run: int) -> RunRecord:
        """Notes that Flower runs it."""
        return self._save(run, state="running", flower_run=flower_run, again=None)

    def due(self, run: RunRecord) -> bool:
        """Whether it is time to try a waiting run again."""
        return run.again is None or self._clock() >= run.again

    def expired(self, run: RunRecord) -> bool:
        """Whether the signed plan is past its last day, after which no hospital would begin it again."""
        return run.expires is not None and self._clock() > run.expires

    def lost(self, run: RunRecord, *, at_once: int) -> RunRecord:
        """Queues a run again whose process was lost; after ``at_once`` such losses in a row it waits in between."""
        run = run.model_copy(update={"restarts": run.restarts + 1})
        return self.waits(run, LostProcessError.code, at_once=at_once)

    def waits(self, run: RunRecord, code: str, *, at_once: int = 0) -> RunRecord:
        """Sets a run aside until it can go on, with who is missing; the pauses grow while no round is finished.

        The first ``at_once`` times in a row it is queued without a pause.
        """
        stands = self._progress(run).get("round", 0)
        tries = run.tries + 1 if stands == run.stood_at else 1
        noted = {"flower_run": None, "tries": tries, "stood_at": stands, "code": code, "waits_for": self.absent(run)}
        if tries <= at_once:
            return self._save(run, state="queued", **noted)
        pause = min(LONGEST_WAIT_SECONDS, 2 ** min(tries - at_once, 16))
        return self._save(run, state="waiting", again=int(self._clock()) + pause, **noted)

    def queued_again(self, run: RunRecord) -> RunRecord:
        """Queues the active run again because the operator stopped the server."""
        return self._save(run, state="queued", flower_run=None, again=None)

    def paused(self, run: RunRecord) -> RunRecord:
        """Sets a run aside; its journal keeps the leg where it stood. Raises FW-POLICY-313 (it has ended)."""
        return self._save(_not_ended(run), state="paused", flower_run=None)

    def resumed(self, run: RunRecord) -> RunRecord:
        """Queues a run again that is paused or waits; another open one is left. Raises FW-POLICY-313 (it has ended)."""
        left = _not_ended(run).state in ("queued", "running")
        return run if left else self._save(run, state="queued", again=None)

    def ended(self, run: RunRecord, end: RunEnd) -> RunRecord:
        """Notes how it ended."""
        state: State = "completed" if end.exit_status == 0 else "failed"
        noted = {"ended": int(self._clock()), "flower_run": None, "exit_status": end.exit_status, "code": end.code}
        return self._save(run, state=state, waits_for={} if state == "completed" else self.absent(run), **noted)

    def aborted(self, run: RunRecord) -> RunRecord:
        """Notes that the operator ended it."""
        end = {"ended": int(self._clock()), "exit_status": StoppedError.row().exit_code, "code": StoppedError.code}
        return self._save(run, state="aborted", **end)

    def moved(self, run: RunRecord, home: ServerFolders) -> RunRecord:
        """Points an open run, which lies here, to where its folders will be, and leaves it paused."""
        job = self.folder(run.name) / JOB
        seconds = parse(json.loads(job.read_bytes()), FederationJob, source=JOB).discover_seconds
        _write(job, Runs(home)._job(run.name, seconds))
        return self.paused(run)

    def _progress(self, run: RunRecord) -> dict[str, Any]:
        return _beside(self.folder(run.name) / PROGRESS)

    def absent(self, run: RunRecord) -> dict[str, str]:
        """Code by hospital of those that a run's process lacks, or lacked when it ended."""
        return {site: str(code) for site, code in _beside(self.folder(run.name) / ABSENT).items() if site in run.sites}

    def _save(self, run: RunRecord, **changes: object) -> RunRecord:
        changed = run.model_copy(update=changes)
        _write(self.folder(run.name) / RECORD, changed)
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


def _know_end_and_code(root: Path) -> None:
    """From 0, release 0.1.0: open runs learn when their signed plan ends, and their jobs where it lies, so that the
    code of its parts is checked before any hospital is asked."""
    folders = ServerFolders(root)
    coordinator = folders.identity().public
    for path in sorted(folders.runs.glob(f"*/{RECORD}")):
        record, signed = _read(path, RunRecord), path.with_name(SIGNED_FILE)
        if not record.open or not signed.exists():
            continue
        expires = None  # of a plan in a form that this release does not read: such a run waits for its own release
        with contextlib.suppress(VersionError):
            expires = open_proposal(read_limited(signed, MAX_FILE_BYTES), coordinator).proposal.expires
        job = _read(path.with_name(JOB), FederationJob)
        if record.expires is not None and job.signed is not None:
            continue
        changed: dict[Path, Section] = {
            path.with_name(JOB): job.model_copy(update={"signed": str(signed)}),
            path: record.model_copy(update={"expires": expires}),
        }
        for file, document in changed.items():
            keep_copy(file, 0)
            _write(file, document)


RUN = Schema("run", steps=[lambda folder: None])
"""Form of a run's folder at the coordinator."""

COORDINATOR_STATE = Schema("coordinator", steps=[_know_end_and_code])
"""Form of a coordinator's state folder."""


def describe(runs: Runs, run: RunRecord) -> dict[str, Any]:
    """A run with its progress, for people and programs. One whose process looks for hospitals is waiting, too."""
    progress = _beside(runs.folder(run.name) / PROGRESS)
    absent = runs.absent(run)
    if run.state == "running" and absent:
        run = run.model_copy(update={"state": "waiting", "waits_for": absent})
    return {**run.model_dump(), "round": progress.get("round", 0), "rounds": progress.get("rounds")}


def missing_of(run: RunRecord) -> str:
    """For whom a run waits, and with which code each of them was last heard of."""
    named = [f"{site} ({code})" for site, code in sorted(run.waits_for.items())]
    return ", ".join(named) or "what it lacks"


def _beside(path: Path) -> dict[str, Any]:
    """What a run's process has left for others to read, if it has."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return parse(json.loads(path.read_bytes()), kind, source=path.name)
    except (OSError, ValueError, RecursionError) as error:
        message = f"The file {path.name} of the state folder cannot be read."
        raise IntegrityError(message, code="FW-INTEGRITY-311") from error


def _write(path: Path, document: Section) -> None:
    replace_private(path, document.model_dump_json(indent=2).encode())


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
        message = f"The roster names sites that are not admitted: {', '.join(strangers)}."
        raise PolicyError(message, code="FW-POLICY-312")
    pins = (verified.roster.base_model_hash, verified.roster.adapter_layout_hash)
    plan = terms.read()
    if plan.statistics is None and pins != (terms.base_model_hash, terms.adapter_layout_hash):
        raise PolicyError("The roster pins another model or adapter than the plan.", code="FW-POLICY-312")
    check_core(verified.roster.code_hash)
    check_plan_code(plan, terms.family, terms.code_hash)
    check_roster(Schedule.of(plan), verified.roster.keys, min_cohort=verified.roster.policy.min_cohort)
