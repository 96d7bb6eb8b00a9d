"""The people and machines of a simulated federation: records, identities, an approved roster, and one hospital each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedward.adapter import Vector
from fedward.agreements.code import core_hash
from fedward.client.data import Example
from fedward.client.examples import load_examples, training_records
from fedward.client.hospital import Hospital, Streams, base_model_hash, local_policy
from fedward.client.models.adapter_model import AdapterModel, build_model
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.survey import Rows, rows_of
from fedward.client.tasks import local_task
from fedward.client.tasks.language import RunningSource
from fedward.errors import ConfigError, DataError, FedwardError
from fedward.measures import Outcomes
from fedward.messages import Reply, Request
from fedward.plan import Plan
from fedward.planning.scenario import DEFAULT_HOSPITALS, MIN_HOSPITALS, DataConfig, Scenario
from fedward.privacy.ledger import Ledger
from fedward.privacy.noise import SecureStream, unsafe_seeded_stream
from fedward.privacy.secagg.client import AcceptedManifest, SecAggClient
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.journal import FileJournal, MemoryJournal
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, approve, publish, verify_roster
from fedward.run import Run, roster_rules
from fedward.simulations.partition import divide, site_names, split_sides
from fedward.simulations.synthetic import KNOWN_TRUTH, HospitalSpec, default_hospitals, draw, write_mimic3
from fedward.simulations.synthetic.notes import draw_notes
from fedward.strategies.combinations import check_ranks
from fedward.units import check_unit

COORDINATOR = "coordinator"
DATA_ROOT = "FEDWARD_DATA"


@dataclass(frozen=True)
class Randomness:
    """Hands out one stream per purpose and hospital.

    ``unsafe_seed`` is None for noise from the operating system; a number makes every stream reproducible and the run
    NON-PRIVATE, because whoever knows the seed can subtract the noise.
    """

    unsafe_seed: int | None = None

    def stream(self, purpose: str, site: str) -> SecureStream:
        """An independent stream; the same arguments give the same stream only with a seed."""
        if self.unsafe_seed is None:
            return SecureStream.from_os()
        return unsafe_seeded_stream(self.unsafe_seed, purpose, site)


@dataclass(frozen=True)
class SiteData:
    """One hospital's records, already split.

    ``truth`` is what the generator knows of each evaluation patient, for synthetic data only, see ``BEST_POSSIBLE``.
    """

    name: str
    train: Sequence[Example]
    evaluation: Sequence[Example]
    truth: Mapping[str, float] | None = field(default=None, repr=False)


def make_sites(scenario: Scenario, plan: Plan) -> list[SiteData]:
    """Draws or reads the records of all hospitals of ``scenario``, in order of name, each split by their unit.

    Raises DataError (unreadable or unusable data, or not of the plan's unit; a hospital that is empty or has one
    label), FW-CONFIG-003 (fewer than three hospitals come out).
    """
    check_unit(*scenario.data.records.held, plan.privacy.unit)
    sites = sorted(_sites_of(scenario, plan), key=lambda site: site.name)
    if len(sites) < MIN_HOSPITALS:
        raise ConfigError(
            f"The data of the scenario {scenario.name!r} yield {len(sites)} hospitals.", code="FW-CONFIG-003"
        )
    least = 2 if local_task(plan.task).has_labels else 1
    for site in sites if plan.statistics is None else ():
        for part, examples in (("training", site.train), ("evaluation", site.evaluation)):
            if not examples:
                told = f"The hospital {site.name!r} has no {part} records."
                raise DataError(told, code="FW-DATA-006")
            if len({example.label for example in examples}) < least:
                raise DataError(
                    f"The {part} records of hospital {site.name!r} do not have both outcomes.",
                    code="FW-DATA-007",
                    fix="Give the hospital more records, join it with another, or choose another task.",
                )
    return sites


def _sites_of(scenario: Scenario, plan: Plan) -> list[SiteData]:
    source = scenario.data.source
    if source == "synthetic":
        return _synthetic(scenario, plan)
    data, every = scenario.data, plan.privacy.records_per_unit > 1
    examples = load_examples(
        _folder(data), format=source, task=scenario.task, every=every, exclude=_file(data.exclude),
        mapping=_file(data.mapping), counted=plan.statistics is not None, most_dropped=data.most_dropped,
    )  # fmt: skip
    found = divide(scenario, examples, fraction=plan.evaluation_fraction, salt=plan.split_salt)
    sites = found.sites.items()
    return [SiteData(name, training_records(plan, train), evaluation) for name, (train, evaluation) in sites]


def _synthetic(scenario: Scenario, plan: Plan) -> list[SiteData]:
    configured, count = scenario.data.site, scenario.data.hospitals or DEFAULT_HOSPITALS
    specs = default_hospitals(count) if configured is None else [HospitalSpec(**s.model_dump()) for s in configured]
    if isinstance(local_task(scenario.task).source, RunningSource):
        return _noted(scenario, plan, specs)
    called, sites = site_names([spec.name for spec in specs]), []
    with tempfile.TemporaryDirectory(prefix="fedward-hospitals-") as root:
        for hospital in draw(specs, scenario.seed):
            folder = Path(root) / called[hospital.spec.name]
            write_mimic3(hospital, folder)
            try:
                every, counted = plan.privacy.records_per_unit > 1, plan.statistics is not None
                examples = load_examples(folder, format="mimic-iii", task=scenario.task, every=every, counted=counted)
            except DataError as error:
                words = f"Hospital {hospital.spec.name!r}: {error.message}"
                raise DataError(words, code=error.code, fix=error.fix) from error
            truth = hospital.eta if scenario.task == KNOWN_TRUTH else None
            fraction, salt = plan.evaluation_fraction, plan.split_salt
            (train, evaluation), _ = split_sides(scenario.data, examples, fraction=fraction, salt=salt)
            sites.append(SiteData(called[hospital.spec.name], training_records(plan, train), evaluation, truth))
    return sites


def _noted(scenario: Scenario, plan: Plan, specs: Sequence[HospitalSpec]) -> list[SiteData]:
    """Hospitals of running notes, a note per patient.

    The notes are made here and of no person, so nothing in them is to be scanned for and they are learned as they are.
    """
    called, sites = site_names([spec.name for spec in specs]), []
    for hospital in draw_notes(specs, scenario.seed):
        name = called[hospital.spec.name]
        examples = [Example(patient, name, note, "", "en") for patient, note in hospital.notes.items()]
        fraction, salt = plan.evaluation_fraction, plan.split_salt
        (train, evaluation), _ = split_sides(scenario.data, examples, fraction=fraction, salt=salt)
        truth = {each.unit: hospital.generator.nats_per_character(each.text) for each in evaluation}
        sites.append(SiteData(name, training_records(plan, train), evaluation, truth))
    return sites


def _folder(data: DataConfig) -> Path:
    if data.path is None:
        raise ConfigError(f"The data source {data.source!r} needs data.path.")
    folder = _below_root(data.path)
    if not folder.exists():
        raise DataError(f"The data folder {data.path!r} of the scenario was not found.", code="FW-DATA-050")
    return folder


def _file(path: str | None) -> Path | None:
    return None if path is None else _below_root(path)


def _below_root(path: str) -> Path:
    """A path of a scenario, relative to the folder of data sets where that is set."""
    root = os.environ.get(DATA_ROOT)
    return Path(path) if root is None else Path(root) / path


@dataclass(frozen=True)
class EncodedSite:
    """One hospital's records as its model reads them, encoded once for all that is trained on them here."""

    name: str
    train: Records
    evaluation: Records
    survey: Rows | None = None  # of a plan of statistics: what its units add

    @classmethod
    def encode(cls, site: SiteData, run: Run, files: ModelFiles, model: AdapterModel) -> EncodedSite:
        """Encodes both populations of ``site``."""
        length, task, parts = run.plan.adapter.max_tokens, local_task(run.task.name), (site.train, site.evaluation)
        train, evaluation = (Records.encode(part, task, files, model, max_tokens=length) for part in parts)
        return cls(site.name, train, evaluation)

    @classmethod
    def count(cls, site: SiteData, run: Run) -> EncodedSite:
        """Counts both populations of ``site`` for a plan of statistics; no text is read."""
        task, parts = local_task(run.task.name), (site.train, site.evaluation)
        train, evaluation = (Records.unread(part, task) for part in parts)
        return cls(site.name, train, evaluation, rows_of([*site.train, *site.evaluation], run.counts))


@dataclass(frozen=True)
class Agreement:
    """A roster that every hospital has approved, and everybody's keys (all in this process, for simulation)."""

    coordinator: Identity
    members: dict[str, Identity]
    signed: bytes
    roster: Roster


def _fresh_seed(name: str) -> bytes:
    return os.urandom(32)


def agree(run: Run, names: Sequence[str], *, seed_of: Callable[[str], bytes] = _fresh_seed) -> Agreement:
    """Makes identities, fresh ones unless ``seed_of`` gives their keys, and a roster of ``names``, approved by all."""
    plan, coordinator = run.plan, Identity.from_seed(COORDINATOR, seed_of(COORDINATOR))
    members = {name: Identity.from_seed(name, seed_of(name)) for name in sorted(names)}
    colluders, min_cohort = roster_rules(run, len(members))
    check_ranks(plan, members)
    roster = Roster(
        federation=plan.name,
        coordinator=coordinator.public,
        members=tuple(Member(name, identity.public) for name, identity in members.items()),
        colluders=colluders,
        policy=RunPolicy(min_cohort=min_cohort, epoch_days=1, unsafe_two_party=False),
        base_model_hash=base_model_hash(plan),
        adapter_layout_hash=run.layout.hash(),
        code_hash=core_hash(),
    )
    signed = publish(roster, coordinator)
    for identity in members.values():
        signed = approve(signed, identity)
    return Agreement(coordinator, members, signed, roster)


class WatchedHospital(Hospital):
    """A hospital whose encoded vectors, which secure aggregation hides, the simulator keeps to compare sums."""

    last_encoded: RingVector | None = None
    reason: FedwardError | None = None  # the first of its refusals that depended on records, which no coordinator hears

    def answer(self, request: Request) -> Reply:
        """Its answer, as in a deployment; why there is none is kept for whoever simulates, who owns all records."""
        try:
            return super().answer(request)
        except FedwardError as error:
            if self.reason is None and error.of_records:
                self.reason = error
            raise

    def evaluate(self) -> Outcomes:
        """What the model it ends with makes of its own evaluation records; the simulator's view."""
        return self.outcomes(self.evaluation)

    def encode(self, accepted: AcceptedManifest, values: dict[str, Vector]) -> RingVector:  # type: ignore[override]
        """Encodes and keeps a copy."""
        vector = super().encode(accepted, values)  # type: ignore[arg-type]
        self.last_encoded = vector.copy()
        return vector


def make_hospital(
    run: Run,
    site: EncodedSite,
    files: ModelFiles | None,
    agreement: Agreement,
    randomness: Randomness,
    *,
    ledger: Ledger | None,
    microbatch: int | None,
    journal: FileJournal | None = None,
) -> WatchedHospital:
    """One hospital of the simulation, with records, model and keys of its own; without ``files``, with no model.

    It can be made again after its process ended only if it is given a ``journal`` on disk.
    """
    roster, model = agreement.roster, None if files is None else build_model(run, files, site=site.name)
    policy = local_policy(run, model, roster, min_cohort=roster.policy.min_cohort)
    return WatchedHospital(
        name=site.name,
        run=run,
        task=local_task(run.task.name),
        model=model,
        train=site.train,
        evaluation=site.evaluation,
        secagg=SecAggClient(
            identity=agreement.members[site.name],
            roster=agreement.signed,
            policy=policy,
            journal=MemoryJournal() if journal is None else journal,
        ),
        roster=verify_roster(agreement.signed),
        ledger=ledger,
        streams=Streams(**{use: randomness.stream(use, site.name) for use in ("noise", "statistics", "rounding")}),
        adapters=None if journal is None else journal.beside("adapters"),
        microbatch=microbatch,
        survey=site.survey,
    )
