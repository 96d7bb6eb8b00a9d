"""Approvals: what a person at the hospital has decided about plans and rosters, within the hospital's own limits.

The daemon serves what was accepted and nothing else. A decision is signed by the site's own key. It names the hash of
the signed plan, which covers the plan, its base model, code and privacy settings, run and expiry, and the hash of the
code that reads this site's tables. It is checked again at every leg, so that a withdrawn approval ends a run.

Nothing a plan says about itself is believed. Epsilon is computed here from the plan's noise, at the site's delta, by
the same accountant that charges the ledger; the epsilon that the plan was calibrated for plays no part. In this file:
decisions, limits, rosters, and a plan in the words of a data protection officer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fedward.agreements.code import core_hash, plan_code_hash, reader_hash, short, with_mapping
from fedward.agreements.enrolment import same_fingerprint
from fedward.agreements.proposal import MAX_PROPOSAL_BYTES, RUN_NAME, VerifiedProposal, open_proposal
from fedward.client.corpora import corpus_named
from fedward.client.corpora.mapping import mapping_bytes
from fedward.client.daemon.folders import SiteFolders, pinned_coordinator
from fedward.client.daemon.settings import ClientConfig, PolicySection
from fedward.client.data import Example
from fedward.errors import AuthenticationError, ConfigError, FedwardError, IntegrityError, PolicyError, VersionError
from fedward.messages import MalformedMessageError
from fedward.plan import Plan
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import RELATION, SHARES_UNKNOWN, Event, PrivacyParameterError, to_everybody
from fedward.privacy.secagg.crypto import Identity, RefusalError, fingerprint, open_sealed
from fedward.privacy.secagg.messages import Digest, Flag, Message, Site, Text, Uint
from fedward.privacy.secagg.roster import Roster, VerifiedRoster, minimum_threshold, require_own_approval
from fedward.run import Schedule, most_shares
from fedward.storage import read_limited, replace_private
from fedward.strategies.registry import in_words
from fedward.units import UNITS, UnitName, check_unit

if TYPE_CHECKING:
    from fedward.client.daemon.recomputed import Recomputed

DAY_SECONDS = 86_400
MAX_ROSTER_BYTES = 256 * 1024
Lines = list[tuple[str, str]]


class ExpiredPlanError(PolicyError, code="FW-POLICY-301"):
    """A plan has expired, or is valid for longer than this site allows."""


class OtherCodeError(VersionError, code="FW-VERSION-302"):
    """A plan, or its approval, is of other code than is installed here."""


class Decision(Message):
    """What was decided about one plan."""

    site: Site
    run: Annotated[str, Text(63)]
    plan: Digest  # hash of the signed plan
    reader: Digest  # hash of the code that reads this site's tables
    accepted: Annotated[bool, Flag()]
    by: Annotated[str, Text(200)]  # who decided, as this person wishes to be named in this hospital's records
    at: Annotated[int, Uint()]  # seconds since 1970


@dataclass(frozen=True)
class Approval:
    """A plan this site knows, with the decision about it, if there is one."""

    verified: VerifiedProposal
    decision: Decision | None

    @property
    def accepted(self) -> bool:
        """Whether a person said yes."""
        return self.decision is not None and self.decision.accepted


@dataclass(eq=False, repr=False)
class Approvals:
    """The plans and decisions in a site's state folder."""

    config: ClientConfig
    folders: SiteFolders
    identity: Identity  # of the site; signs decisions
    _: KW_ONLY
    clock: Callable[[], float] = time.time  # seconds since 1970

    def __post_init__(self) -> None:
        pinned = pinned_coordinator(self.folders)
        self._coordinator, self._federation = pinned.coordinator, pinned.federation

    def open(self, plan: Path) -> VerifiedProposal:
        """Reads a plan file that was sent here.

        Raises AuthenticationError FW-AUTH-304 (not signed by the pinned coordinator), ConfigError FW-CONFIG-302
        (another federation's), VersionError FW-VERSION-301.
        """
        verified = open_proposal(read_limited(plan, MAX_PROPOSAL_BYTES), self._coordinator)
        if verified.proposal.federation != self._federation:
            raise ConfigError("The plan belongs to another federation.", code="FW-CONFIG-302")
        return verified

    def check(self, verified: VerifiedProposal) -> None:
        """Refuses a plan beyond this site's limits, or that says of itself what does not follow from it.

        Raises like :func:`check_proposal` and, where the base model is on this machine, like :func:`check_said`.
        """
        from fedward.client.daemon.recomputed import check_said, recompute  # for which torch is imported

        check_proposal(verified, self.config, now=self.clock(), shares=self.shares(verified.plan))
        found = recompute(verified.plan)
        if found is not None:
            check_said(verified, found)

    @property
    def agreed(self) -> Roster | None:
        """The roster in force; None before there is one. Raises like :func:`approved_roster`."""
        if not self.folders.roster.exists():
            return None
        return approved_roster(self.folders, self.config, self.identity)[1].roster

    def shares(self, plan: Plan) -> int:
        """Into how many shares noise may be split under the roster in force; 0, not known, without one."""
        roster = self.agreed
        return SHARES_UNKNOWN if roster is None else most_shares(Schedule.of(plan), roster.keys, roster.colluders)

    def decide(self, verified: VerifiedProposal, *, accept: bool, by: str) -> Approval:
        """Records a decision about a plan that :meth:`open` has read; an earlier one about the same plan is replaced.

        The plan file is not read again: whoever can write to it may have put another one in its place meanwhile.

        Raises, for an accepted plan, like :func:`check_proposal`, and IntegrityError FW-INTEGRITY-301 (this run was
        decided about with another plan).
        """
        run = verified.proposal.run
        if accept:
            self.check(verified)
        if self._file(run, "plan").exists() and self._plan(run).hash != verified.hash:
            raise IntegrityError("This run was decided about with another plan.", code="FW-INTEGRITY-301")
        decision = Decision(self.identity.name, run, verified.hash, self.reader, accept, by, int(self.clock()))
        replace_private(self._file(run, "plan"), verified.sealed)
        replace_private(self._file(run, "decision"), self.identity.seal("decision", decision))
        return Approval(verified, decision)

    def get(self, run: str) -> Approval:
        """What is known of a run.

        Raises like :meth:`open`, PolicyError FW-POLICY-308 (nothing is known), IntegrityError FW-INTEGRITY-302 (a file
        here was altered), VersionError FW-VERSION-306 (or written by another release).
        """
        verified = self._plan(run)
        return Approval(verified, self._decision(verified))

    def _plan(self, run: str) -> VerifiedProposal:
        # A run's name may come from outside; one that is no name never becomes part of a path.
        if RUN_NAME.fullmatch(run) is None or not self._file(run, "plan").exists():
            raise PolicyError("Nobody at this hospital has accepted a plan of this run.", code="FW-POLICY-308")
        verified = self.open(self._file(run, "plan"))
        if verified.proposal.run != run:
            raise IntegrityError("A stored plan is of another run than its name says.", code="FW-INTEGRITY-302")
        return verified

    def require(self, run: str) -> VerifiedProposal:
        """The plan of a run that may be served now.

        Raises like :meth:`get`, PolicyError FW-POLICY-308 (denied or withdrawn), ExpiredPlanError, OtherCodeError
        FW-VERSION-305 (another reader of this site's tables was installed since).
        """
        found = self.get(run)
        if not found.accepted:
            words = "Nobody at this hospital has accepted the plan of this run, or it was withdrawn."
            raise PolicyError(words, code="FW-POLICY-308")
        check_dates(found.verified, self.config.policy, now=self.clock())
        self.check_reader(found)
        return found.verified

    def check_reader(self, approval: Approval) -> None:
        """Refuses an approval that was given with another reader installed than now; raises FW-VERSION-305."""
        if approval.decision is not None and approval.decision.reader != self.reader:
            raise OtherCodeError(
                f"What reads {self.config.tables.format} tables (code, mapping file) is not that of when the plan was "
                "accepted.",
                code="FW-VERSION-305",
            )

    def all(self) -> list[Approval | FedwardError]:
        """Every plan this site has decided about, by run; the error where one cannot be read."""
        found: list[Approval | FedwardError] = []
        for path in sorted(self.folders.approvals.glob("*.plan")):
            try:
                found.append(self.get(path.stem))
            except FedwardError as error:
                found.append(error)
        return found

    def _decision(self, verified: VerifiedProposal) -> Decision | None:
        run, site = verified.proposal.run, self.identity
        if not self._file(run, "decision").exists():
            return None
        try:
            sealed = read_limited(self._file(run, "decision"), MAX_PROPOSAL_BYTES)
            decision = Decision.from_bytes(open_sealed("decision", sealed, site.public))
        except RefusalError as error:
            raise IntegrityError("A stored decision is not this site's own.", code="FW-INTEGRITY-302") from error
        except MalformedMessageError as error:  # this site has signed it, in the form of another release
            words = "A stored decision was made with another release of fedward."
            raise VersionError(words, code="FW-VERSION-306") from error
        if (decision.plan, decision.run, decision.site) != (verified.hash, run, site.name):
            raise IntegrityError("A stored decision is about another plan.", code="FW-INTEGRITY-302")
        return decision

    @property
    def reader(self) -> bytes:
        """Hash of what reads this site's tables. The mapping file is read each time: it may change under a daemon.

        Raises FW-DATA-072 (it cannot be read).
        """
        return installed_reader(self.config, self._code)

    @cached_property
    def _code(self) -> bytes:
        return reader_hash(self.config.tables.format)

    def _file(self, run: str, kind: Literal["plan", "decision"]) -> Path:
        return self.folders.approvals / f"{run}.{kind}"


def check_shown(verified: VerifiedProposal, shown: str) -> None:
    """Raises FW-INTEGRITY-303 unless ``shown`` is the fingerprint of this very plan file."""
    if not same_fingerprint(verified.fingerprint, shown):
        raise IntegrityError("This plan file is another one than was shown.", code="FW-INTEGRITY-303")


def installed_reader(config: ClientConfig, code: bytes) -> bytes:
    """``code``, the hash of what reads this site's tables, with its mapping file; raises FW-DATA-072 (no such file)."""
    mapping = config.tables.mapped_by
    return code if mapping is None else with_mapping(code, mapping_bytes(mapping))


def check_proposal(verified: VerifiedProposal, config: ClientConfig, *, now: float, shares: int) -> None:
    """Applies every limit that needs no records; raises for the first that the plan breaks.

    ``shares`` are those of :meth:`Approvals.shares`.

    Raises ExpiredPlanError, OtherCodeError, PolicyError FW-POLICY-302 to FW-POLICY-305, DataError FW-DATA-031 (it
    protects other units than this site's records are of).
    """
    proposal, plan, policy = verified.proposal, verified.plan, config.policy
    check_dates(verified, policy, now=now)
    if proposal.terms.code_hash != plan_code_hash(plan, proposal.terms.family):
        raise OtherCodeError(
            "The plan was signed for other code of its task, strategy, measures or model family than is installed here."
        )
    if plan.statistics is None and f"sha256:{plan.base_model_sha256}" not in policy.allowed_base_models:
        raise PolicyError("The plan's base model is not on this site's list.", code="FW-POLICY-302")
    corpus = corpus_named(config.tables.format)
    check_unit(corpus.name, corpus.unit, plan.privacy.unit)
    if not plan.privacy.private or plan.privacy.unsafe_exact_evaluation:
        if not policy.unsafe_non_private:
            words = "The plan has no differential privacy, or releases exact statistics."
            raise PolicyError(words, code="FW-POLICY-303")
        return
    if plan.privacy.delta > policy.delta:
        raise PolicyError("The plan's delta is larger than this site's.", code="FW-POLICY-305")
    spent = run_epsilon(plan, policy.delta)
    if spent > policy.max_epsilon_per_run:
        words = f"The run costs epsilon {spent:.3f}, this site allows {policy.max_epsilon_per_run:g} for one run."
        raise PolicyError(words, code="FW-POLICY-304")
    everybody, most = run_epsilon_everybody(plan, policy.delta, shares), policy.max_epsilon_everybody
    if most is not None and everybody > most:
        cost = f"{everybody:.3f}" if math.isfinite(everybody) else "nobody knows how much before a roster is approved"
        words = f"Against everybody else together the run costs epsilon {cost}, this site allows {most:g}."
        raise PolicyError(words, code="FW-POLICY-304")


def check_family(verified: VerifiedProposal, family: str) -> None:
    """Raises OtherCodeError if the plan pins the code of another model family than its base model's, ``family``."""
    named = verified.proposal.terms.family
    if named != family:
        raise OtherCodeError(f"The plan was signed for models of the family {named}, and its base model is a {family}.")


def check_dates(verified: VerifiedProposal, policy: PolicySection, *, now: float) -> None:
    """Raises :class:`ExpiredPlanError`."""
    expires = verified.proposal.expires
    if expires < now:
        raise ExpiredPlanError("The plan has expired.")
    if expires - now > (policy.max_plan_days + 1) * DAY_SECONDS:
        raise ExpiredPlanError("The plan is valid for longer than this site allows.")


def check_size(training: Sequence[Example], policy: PolicySection, unit: UnitName) -> None:
    """Raises FW-POLICY-306 for records of too few units; the message names no number."""
    if len({example.unit for example in training}) < policy.min_units:
        words = f"This site has fewer training {UNITS[unit].plural} than its policy asks for."
        raise PolicyError(words, code="FW-POLICY-306", of_records=True)


def check_cohort(min_cohort: int, policy: PolicySection) -> None:
    """Raises FW-POLICY-307 for a roster whose smallest cohort is too small."""
    if min_cohort < policy.min_cohort:
        words = f"The roster allows rounds of {min_cohort} hospitals, this site of {policy.min_cohort}."
        raise PolicyError(words, code="FW-POLICY-307")


def run_epsilon(plan: Plan, delta: float) -> float:
    """What the run costs its most exposed unit at ``delta``, against the coordinator; infinite without noise."""
    return _run_price(plan, delta, SHARES_UNKNOWN, tuple)


def run_epsilon_everybody(plan: Plan, delta: float, shares: int) -> float:
    """The same against all other hospitals and the coordinator together; infinite while ``shares`` are not known."""
    return _run_price(plan, delta, shares, to_everybody)


def _run_price(
    plan: Plan, delta: float, shares: int, seen: Callable[[Sequence[Event]], tuple[Event, ...] | None]
) -> float:
    if not plan.privacy.private or plan.privacy.unsafe_exact_evaluation:
        return math.inf
    schedule = Schedule.of(plan)
    try:
        both = schedule.all_training_events(honest=shares), schedule.all_evaluation_events(honest=shares)
        told = [seen(events) for events in both]
    except PrivacyParameterError:
        return math.inf  # there is no noise
    return max(math.inf if events is None else _price(events, delta) for events in told)


@lru_cache(maxsize=16)
def _price(events: tuple[Event, ...], delta: float) -> float:
    """Remembered, because a composition takes a second and every command about a plan asks for it again."""
    try:
        return epsilon(events, delta).epsilon if events else 0.0
    except PrivacyParameterError:
        return math.inf  # so little noise that no finite epsilon can be stated at this delta


def put_in_force(signed: bytes, config: ClientConfig) -> None:
    """Stores a roster that this site has approved; raises like :func:`approved_roster`."""
    folders = SiteFolders(config.folder)
    _check_roster(signed, folders, config, folders.identity(config.site.name))
    replace_private(folders.roster, signed)


def approved_roster(folders: SiteFolders, config: ClientConfig, identity: Identity) -> tuple[bytes, VerifiedRoster]:
    """The roster in force, as bytes and checked: approved here, and published by the coordinator that was joined.

    Raises PolicyError FW-POLICY-310 (there is none), FW-POLICY-307, AuthenticationError FW-AUTH-305 (another
    coordinator's), RefusalError (it is not approved here, or a signature does not verify).
    """
    if not folders.roster.exists():
        raise PolicyError("This site has approved no roster.", code="FW-POLICY-310")
    signed = read_limited(folders.roster, MAX_ROSTER_BYTES)
    return signed, _check_roster(signed, folders, config, identity)


def _check_roster(signed: bytes, folders: SiteFolders, config: ClientConfig, identity: Identity) -> VerifiedRoster:
    verified = require_own_approval(signed, identity)
    if verified.roster.coordinator != pinned_coordinator(folders).coordinator:
        raise AuthenticationError("The roster names another coordinator than the pinned one.", code="FW-AUTH-305")
    check_cohort(verified.roster.policy.min_cohort, config.policy)
    return verified


@dataclass(frozen=True)
class Spent:
    """What this site's ledger has charged so far, and into how many shares a plan's noise may be split."""

    epsilon: float = 0.0  # against the coordinator
    everybody: float = 0.0  # against all other hospitals and the coordinator together
    shares: int = SHARES_UNKNOWN


def describe_plan(
    verified: VerifiedProposal,
    config: ClientConfig,
    coordinator: bytes,
    *,
    spent: Spent,
    found: Recomputed | None,
    agreed: Roster | None = None,
) -> list[tuple[str, Lines]]:
    """Sections of labelled lines: who asks, what is trained and on which data, what leaves, who learns what, the costs.

    This site's limits stand beside what is asked. ``coordinator`` is its public key, ``found`` what was computed from
    plan and base model (None without the model here), ``agreed`` the roster in force. Nothing that the plan file says
    of itself is shown as a fact.
    """
    proposal, plan, terms = verified.proposal, verified.plan, verified.proposal.terms
    made, expires = (datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d") for day in (proposal.made, proposal.expires))
    asks = [("federation", proposal.federation), ("run", proposal.run), ("valid", f"{made} to {expires}")]
    start = [] if plan.statistics is not None else [("starting adapter", terms.initial_adapter_hash.hex())]
    return [
        ("Who asks", [*asks, ("coordinator", fingerprint(coordinator))]),
        ("What is trained", _trained(plan, found)),
        ("Which data, all of it only on this machine", _data(plan, config)),
        ("What leaves this hospital", _leaving(plan, found)),
        ("Who could learn what", _learners(plan, agreed)),
        ("What it costs in privacy", _privacy(plan, config.policy, spent)),
        ("Bound to", [("plan file", verified.fingerprint), *_code(verified, config), *start]),
    ]


NOT_HERE = "not known before the base model is on this machine, under this name and with this hash"


def _trained(plan: Plan, found: Recomputed | None) -> Lines:
    schedule, training, privacy = Schedule.of(plan), plan.training, plan.privacy
    task, declared = schedule.task, schedule.kind.declaration
    if plan.statistics is not None:
        plural = UNITS[privacy.unit].plural
        return [
            ("purpose", f"statistics of {plural}, to see whether the data of the hospitals fit together"),
            ("what is learned", "nothing: no model is trained"),
            *((f"counts by {name}", ", ".join(cells)) for name, cells in plan.statistics.variables.items()),
        ]
    learned = NOT_HERE if found is None else f"{found.parameters:,} numbers beside the base model, which stays as it is"
    options = schedule.kind.options(plan).model_dump()
    rates = f"learning rates {training.learning_rate_head:g} (head) and {training.learning_rate_lora:g} (LoRA)"
    steps = "one step here" if training.local_steps == 1 else f"{training.local_steps} steps here"
    return [
        ("purpose", f"a model that estimates {task.purpose}"),
        ("task", f"{task.name}, version {task.version}"),
        ("judged by", ", ".join(measure.title for measure in task.measures)),
        ("base model", f"{plan.base_model} (sha256:{plan.base_model_sha256}), in {plan.adapter.base_precision}"),
        ("what is learned", learned),
        *([("where it starts", _PUBLIC_START)] if plan.adapter.start == "public" else []),
        ("strategy", f"{in_words(plan)} ({declared.source})"),
        *([("its options", ", ".join(f"{name} {value}" for name, value in options.items()))] if options else []),
        ("rounds", f"{training.rounds}, each of {steps} and {schedule.sums} secure sum(s); then one that only scores"),
        ("each step", f"{privacy.sampling_rate:g} of the {UNITS[privacy.unit].plural}, by lot; {rates}"),
        ("clipping", f"{privacy.clipping}, {privacy.clip:g}: what one {privacy.unit} can move a step by"),
    ]


_PUBLIC_START = "at the head that the base model brings from public knowledge, which its hash covers"


def _learners(plan: Plan, agreed: Roster | None) -> Lines:
    """Who sees what, before noise is spoken of; what noise adds to it stands under the costs."""
    least = "of as many hospitals that follow the protocol as the roster asks for; none is approved here yet"
    colluding = "as many hospitals as the roster names"
    if agreed is not None:
        smallest = max(agreed.policy.min_cohort, agreed.colluders + 2)
        honest = minimum_threshold(smallest, agreed.colluders) - agreed.colluders
        least, colluding = f"of at least {honest} hospitals that follow the protocol", f"up to {agreed.colluders}"
    kept = Schedule.of(plan).kind.declaration.personalises and plan.statistics is None
    what = "counts" if plan.statistics is not None else "updates and scores"
    return [
        ("coordinator", f"of {what}, sums {least}, even if it cheats and {colluding} help it; never one hospital's"),
        ("other hospitals", f"the same sums, which each of them checks; {colluding} of them may be those that help it"),
        *([("stays here", "the part of the model that the strategy makes this hospital's own")] if kept else []),
        ("who gets the result", "what the result shows of those it was made from; the noise below limits it"),
        ("nobody", f"a record, a text, or a number of one {plan.privacy.unit} or of this hospital alone"),
    ]


def _code(verified: VerifiedProposal, config: ClientConfig) -> Lines:
    """The three parts of the code, as they are pinned or installed here, and what each covers."""
    terms, plan = verified.proposal.terms, verified.plan
    core = "protocol, noise, accounting, ledger, the round at this hospital, de-identification and leakage guard"
    tables, reader = config.tables, short(installed_reader(config, reader_hash(config.tables.format)))
    reads = f"what reads {tables.format} tables" + ("" if tables.mapped_by is None else f", with {tables.mapped_by}")
    of_plan = f"the task {plan.task} and its measures, the strategy {plan.strategy}"
    if plan.statistics is None:
        of_plan += f", base models of the family {terms.family}"
    return [
        ("core", f"{short(core_hash())}, pinned by the roster: {core}"),
        ("plan's code", f"{short(terms.code_hash)}, pinned by the plan: {of_plan}"),
        ("reader", f"{reader}, pinned by this hospital's approval: {reads}"),
    ]


def _data(plan: Plan, config: ClientConfig) -> Lines:
    tables, unit, words = config.tables, UNITS[plan.privacy.unit], f"at most {plan.adapter.max_tokens} word pieces"
    share, most = round(100 * plan.evaluation_fraction), plan.privacy.records_per_unit
    left_out = [] if tables.exclude is None else [("opted out", f"whom {tables.exclude} lists is never read")]
    several = [] if most == 1 else [("records", f"at most {most} of one {plan.privacy.unit} in each step")]
    if plan.statistics is not None:
        return [
            ("tables", f"{tables.path} ({tables.format}), only read"),
            *left_out,
            (unit.plural, "all, each once by its first record; no text is sent to a model"),
        ]
    return [
        ("tables", f"{tables.path} ({tables.format}), only read"),
        *left_out,
        *several,
        (unit.plural, f"{100 - share} of 100 train the adapter, {share} of 100 measure it; none does both"),
        (f"fewest {unit.plural}", f"{config.policy.min_units} for training, by this hospital's policy"),
        ("text", f"events of the first day as {words}, without names" if unit.persons else words),
    ]


def _times(plan: Plan) -> tuple[str, str]:
    seconds = plan.privacy.reply_seconds
    if not seconds:
        return "when", "as soon as answers are ready: their times tell the coordinator how much was computed"
    return "when", f"{seconds:g} s after an answer that depends on records is asked for, or a whole multiple of it"


def _leaving(plan: Plan, found: Recomputed | None) -> Lines:
    unit, size = (
        plan.privacy.unit,
        "of a size " + NOT_HERE if found is None else f"of at most {found.vector_bytes:,} bytes",
    )
    if plan.statistics is not None:
        return [
            ("once", "noised counts in one masked vector, which only the sum over all hospitals can undo"),
            _times(plan),
            ("never", f"records, texts, names, numbers of one {unit}, counts of this hospital, or error texts"),
            ("result", "the noised counts of all hospitals together, which the coordinator receives"),
        ]
    return [
        ("each sum", f"one masked vector {size}, which only the sum over all hospitals can undo"),
        _times(plan),
        ("with it", "noised counts and losses inside the same vector; keys, hashes and signatures beside it"),
        ("never", f"records, texts, names, numbers of one {unit}, this hospital's own adapter, or error texts"),
        ("result", "the adapter of all hospitals together, which every hospital and the coordinator receive"),
    ]


def _noise(plan: Plan) -> str:
    schedule, own = Schedule.of(plan), "this hospital adds all of the noise itself"
    if not schedule.splits_noise:
        return own
    shared = "each hospital adds a share; it protects if enough other hospitals add theirs"
    if schedule.surveys or (schedule.sums_gradients and schedule.shares_statistics):
        return shared
    if schedule.sums_gradients:
        return f"of gradients {shared}; of statistics {own}"
    return f"of training {own}; of statistics {shared}"


def _upwards(value: float) -> str:
    return f"{math.ceil(value * 1000) / 1000:.3f}" if math.isfinite(value) else "without bound"


def _privacy(plan: Plan, policy: PolicySection, spent: Spent) -> Lines:
    if not plan.privacy.private:
        return [("epsilon", "NONE: this plan has no differential privacy and is for synthetic data only")]
    whole, unit, allowed = run_epsilon(plan, policy.delta), plan.privacy.unit, policy.max_epsilon_per_run
    everybody, most = run_epsilon_everybody(plan, policy.delta, spent.shares), policy.max_epsilon_everybody
    so_far = _upwards(spent.epsilon)
    if spent.everybody != spent.epsilon:
        so_far += f" (everybody together {_upwards(spent.everybody)})"
    limit = "this hospital sets no limit" if most is None else f"this hospital allows {most:g}"
    unknown = spent.shares == SHARES_UNKNOWN and not math.isfinite(everybody)
    together = "not known before a roster is approved" if unknown else _upwards(everybody)
    meaning = (
        f"whoever sees all results can multiply the odds that one given {unit} took part "
        f"by at most {math.exp(min(whole, 700.0)):,.1f} (but for a chance of delta)"
    )
    return [
        ("this run", f"epsilon {whole:.3f} at delta {policy.delta:g}; this hospital allows {allowed:g}"),
        ("everybody", f"epsilon {together} if all other hospitals and the coordinator pool what they see; {limit}"),
        ("so far", f"epsilon {so_far} of {policy.max_epsilon_lifetime:g} for the lifetime of the ledger"),
        ("meaning", meaning),
        ("per", f"{unit}; {RELATION}"),
        ("noise", _noise(plan)),
    ]
