"""Federation of a simulation: a whole federation in one process, and the two models it is measured against.

The federation is the coordinator's and the hospitals' own code over an in-process grid, which implements flwr's public
:class:`~flwr.serverapp.Grid`: the ServerApp and the ClientApps are the very objects a deployment runs; only the network
between them is missing. Each hospital alone, and everything pooled, take exactly the federation's steps, noise and
sampling rate, so they spend the same epsilon. Pooling records is what no deployment may do; only a simulation can.
"""

import itertools
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run as FlowerRun
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.flower import Site, make_client_app
from fedward.client.hospital import starting_state
from fedward.client.models.adapter_model import AdapterModel, build_model, get_vector, set_vector
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.tasks import LocalTask, local_task
from fedward.client.training import LocalTrainer
from fedward.errors import ConfigError, NetworkError, QuorumError
from fedward.measures import Outcomes
from fedward.messages import SUM_STAGES, Reply, Request, Stage
from fedward.planning.budget import RunBudget, planned_epsilons
from fedward.planning.scenario import CompareConfig, SpeedConfig
from fedward.privacy.ledger import Ledger
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.privacy.secagg.server import RoundSum, SecAggServer
from fedward.run import EVALUATION, Run
from fedward.server.flower import GridTransport, make_server_app
from fedward.server.rounds import Coordinator, Incident, RoundSummary
from fedward.simulations.parties import (
    Agreement,
    EncodedSite,
    Randomness,
    SiteData,
    WatchedHospital,
    agree,
    make_hospital,
)
from fedward.simulations.result import CurvePoint, SecureSum
from fedward.simulations.terminal import RunDisplay

HELLO_SECONDS = 60
POOLED = "(pooled)"

_COORDINATOR_NODE = 1
_RUN_ID = 1


class InProcessGrid(Grid):  # type: ignore[misc]  # flwr is not followed by the type checker
    """Delivers messages by calling ``apps`` (by node id) on ``threads``: so many hospitals work at the same time."""

    def __init__(self, apps: Mapping[int, ClientApp], *, threads: int = 1) -> None:
        # Flower reads the identity of the running task from these process-wide fields.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, _COORDINATOR_NODE, 1
        self._apps = {node: (app, _context(node)) for node, app in apps.items()}
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hospital")
        self._replies: dict[str, Future[Message]] = {}
        self._numbers = itertools.count(1)
        self._run: FlowerRun | None = None

    def close(self) -> None:
        """Ends the worker threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def set_run(self, run: FlowerRun) -> None:
        """Keeps ``run``; the simulation has exactly one."""
        self._run = run

    @property
    def run(self) -> FlowerRun:
        """The run that was set."""
        if self._run is None:
            raise RuntimeError("no run was set on this grid")
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Builds an instruction message for node ``dst_node_id``."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All simulated nodes; they are always online."""
        return list(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Starts the addressed ClientApps; returns one id per message."""
        ids = []
        for message in messages:
            message_id = f"m{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = message_id
            app, context = self._apps[message.metadata.dst_node_id]
            self._replies[message_id] = self._pool.submit(app, message, context)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Waits for at least one of ``message_ids`` and returns all that are ready, in the order asked."""
        asked = list(message_ids)
        wait([self._replies[message_id] for message_id in asked], return_when=FIRST_COMPLETED)
        ready = [message_id for message_id in asked if self._replies[message_id].done()]
        return [self._replies.pop(message_id).result() for message_id in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Pushes ``messages`` and waits for every reply."""
        ids = list(self.push_messages(messages))
        return [self._replies.pop(message_id).result(timeout) for message_id in ids]


def _context(node: int) -> Context:
    return Context(run_id=_RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})


class Vanishing:
    """A site that stops answering at ``stage`` of round ``at_round``, for good."""

    def __init__(self, site: Site, at_round: int, stage: Stage) -> None:
        self.name = site.name
        self.at_round, self.stage = at_round, stage
        self._site, self._round, self._gone = site, 0, False

    def answer(self, request: Request) -> Reply:
        """The site's answer, until it is gone."""
        self._round += request.stage is Stage.MANIFEST
        if (self._round, request.stage) == (self.at_round, self.stage):
            self._gone = True
        if self._gone:
            raise NetworkError("This hospital has dropped out.", code="FW-NET-090")
        return self._site.answer(request)


def let_vanish(sites: Sequence[Site], count: int, *, rounds: int, tolerated: int, seed: int) -> list[Site]:
    """Has ``count`` random sites vanish at a random stage of a random round. Raises FW-CONFIG-030 (too many)."""
    if count > tolerated:
        raise ConfigError(
            f"{count} dropouts were asked for, but {len(sites)} hospitals tolerate {tolerated}.",
            code="FW-CONFIG-030",
            fix=f"Ask for at most {tolerated}, or use more hospitals.",
        )
    chance = random.Random(seed)
    chosen = set(chance.sample([site.name for site in sites], count))
    return [
        Vanishing(site, chance.randint(1, rounds), chance.choice(SUM_STAGES)) if site.name in chosen else site
        for site in sites
    ]


@dataclass
class Outcome:
    """What a federation leaves behind."""

    adapter: Vector  # the final global one
    adapters: tuple[Vector, ...]  # before the first round and after each, as every party saw them
    model: AdapterModel  # to hold it
    sites: tuple[EncodedSite, ...]  # what it was trained and scored on, for the models trained beside it
    curve: tuple[CurvePoint, ...]  # what the coordinator saw, adapter by adapter; round 0 is the untrained one
    secure_sum: SecureSum  # whether every unmasked sum was the plain sum of the survivors' vectors, bit for bit
    bytes_up: dict[Stage, float]  # mean bytes that left a hospital in a round
    lifetime: dict[str, float]  # epsilon that each hospital's ledger composes over every run it holds
    incidents: list[Incident]  # replies that did not count
    personal: Mapping[str, Outcomes]
    """What each hospital's own model makes of its own evaluation records; empty where one model serves all."""
    summaries: list[RoundSummary]  # what the coordinator learnt from each sum


@dataclass
class Watcher:
    """The simulator's view of every round: compares sums, keeps the curve, drives the display."""

    run: Run
    hospitals: dict[str, WatchedHospital]
    epsilons: list[float | None]
    display: RunDisplay
    exact: bool = True
    curve: list[CurvePoint] = field(default_factory=list)
    adapters: list[Vector] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    def __call__(self, summary: RoundSummary, done: RoundSum) -> None:
        """Called by the coordinator after each round."""
        plain = RingVector.zeros(done.layout)
        for name in done.survivors:
            encoded = self.hospitals[name].last_encoded
            if encoded is None:
                raise RuntimeError("a survivor encoded nothing")
            plain.add_(encoded)
        self.exact &= plain.tobytes() == done.sum.tobytes()
        if EVALUATION not in done.layout.spans:
            self.display.advance()
            return
        # The first sum of training round r scores the adapter that it started from, which is that of round r - 1.
        number = self.run.step(summary.round).round - 1
        epsilon, measures = self.epsilons[number], dict(summary.measures)
        point = CurvePoint(round=number, measures=measures, epsilon=epsilon, taken_back=summary.taken_back)
        self.curve.append(point)
        now = time.monotonic()
        self.display.round_done(point, now - self._since)
        self._since = now


@dataclass(frozen=True)
class Setting:
    """What everything that is played here has in common."""

    run: Run
    speed: SpeedConfig
    display: RunDisplay
    randomness: Randomness


@dataclass(frozen=True)
class Shared(Setting):
    """What everything that is trained here has in common."""

    files: ModelFiles


@dataclass(frozen=True)
class Played:
    """A federation after its last round."""

    coordinator: Coordinator
    transport: GridTransport
    watcher: Watcher
    hospitals: Sequence[WatchedHospital]
    secure_sum: SecureSum


def federate(
    shared: Shared, sites: Sequence[SiteData], *, budget: RunBudget, dropouts: int = 0, fault_seed: int = 0
) -> Outcome:
    """Plays the run over ``sites``.

    Raises QuorumError (too few hospitals remain), BudgetError (before any training: a ledger has no room for the run).
    """
    with budget.open(site.name for site in sites) as ledgers:
        return _federate(shared, sites, ledgers, budget=budget, dropouts=dropouts, fault_seed=fault_seed)


def _federate(
    shared: Shared,
    sites: Sequence[SiteData],
    ledgers: Mapping[str, Ledger],
    *,
    budget: RunBudget,
    dropouts: int,
    fault_seed: int,
) -> Outcome:
    run, files, speed = shared.run, shared.files, shared.speed
    reference = build_model(run, files)
    encode = partial(EncodedSite.encode, run=run, files=files, model=reference)  # as slow as rounds
    encoded = shared.display.over("reading the records", encode, sites, threads=speed.hospitals_at_once)
    played = play(
        shared, encoded, ledgers, files=files, model=reference, budget=budget, dropouts=dropouts, fault_seed=fault_seed
    )
    coordinator, watcher = played.coordinator, played.watcher
    own = played.hospitals if run.kind.declaration.personalises else []
    return Outcome(
        adapter=coordinator.adapter,
        adapters=tuple(watcher.adapters),
        model=reference,
        sites=tuple(encoded),
        curve=tuple(watcher.curve),
        secure_sum=played.secure_sum,
        bytes_up=played.transport.mean_up(rounds=run.rounds + 1, sites=len(sites)),
        lifetime={name: ledger.spent() for name, ledger in ledgers.items()},
        incidents=coordinator.incidents,
        personal={hospital.name: hospital.evaluate() for hospital in own},
        summaries=coordinator.summaries,
    )


def play(
    setting: Setting,
    sites: Sequence[EncodedSite],
    ledgers: Mapping[str, Ledger],
    *,
    files: ModelFiles | None = None,
    model: AdapterModel | None = None,
    budget: RunBudget,
    dropouts: int = 0,
    fault_seed: int = 0,
) -> Played:
    """Charges the ledgers and plays every round; without ``files`` and ``model``, of a plan that trains nothing.

    Raises QuorumError or, where hospitals took no part because of their records, what the first of them said to itself.
    """
    run, speed, agreement = setting.run, setting.speed, agree(setting.run, [site.name for site in sites])
    hospitals = [
        make_hospital(
            run, site, files, agreement, setting.randomness, ledger=ledgers.get(site.name), microbatch=speed.microbatch
        )
        for site in sites
    ]
    n, c = run.kind.smallest_sum(run.plan, len(sites)), agreement.roster.colluders
    threshold = minimum_threshold(n, c)
    answering = let_vanish(hospitals, dropouts, rounds=max(1, run.rounds), tolerated=n - threshold, seed=fault_seed)
    budget.charge(ledgers)
    apps = {node: make_client_app(site) for node, site in enumerate(answering, start=2)}
    grid = InProcessGrid(apps, threads=speed.hospitals_at_once)
    watcher = Watcher(run, {hospital.name: hospital for hospital in hospitals}, planned_epsilons(run), setting.display)
    setting.display.phase("federated", max(1, run.rounds))
    try:
        coordinator, transport = _serve(run, budget.run, starting_state(run, model), agreement, grid, watcher)
    except QuorumError as error:
        raise next((each.reason for each in hospitals if each.reason is not None), error) from error
    finally:
        grid.close()
    ring_bits = 32 if run.sums_gradients else run.plan.secure_sum.delta_ring_bits
    sums = SecureSum(exact=watcher.exact, ring_bits=ring_bits, threshold=threshold, colluders=c, cohort=n)
    return Played(coordinator, transport, watcher, hospitals, sums)


def _serve(
    run: Run, name: str, start: Vector, agreement: Agreement, grid: InProcessGrid, watcher: Watcher
) -> tuple[Coordinator, GridTransport]:
    """Runs the ServerApp on ``grid``, exactly as a deployment's process would."""
    ran: list[tuple[Coordinator, GridTransport]] = []

    def main(transport: GridTransport) -> None:
        def on_round(summary: RoundSummary, done: RoundSum) -> None:
            watcher(summary, done)
            if run.step(summary.round).closes:
                watcher.adapters.append(coordinator.adapter)

        transport.discover(sorted(agreement.members), seconds=HELLO_SECONDS)
        coordinator = Coordinator(
            run=run,
            name=name,
            adapter=start,
            secagg=SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal()),
            colluders=agreement.roster.colluders,
            transport=transport,
            on_round=on_round,
        )
        watcher.adapters.append(coordinator.adapter)
        coordinator.run()
        ran.append((coordinator, transport))

    # Time stands still for legs: on a slow machine a hospital would drop out, and the result would be another one.
    make_server_app(main, clock=lambda: 0.0)(grid, _context(_COORDINATOR_NODE))
    return ran[0]


@dataclass(frozen=True)
class EvaluationSet:
    """Evaluation records of all hospitals together, for the simulator's eyes only."""

    task: LocalTask
    records: Records
    site: NDArray[np.int64]  # [N], which hospital each record belongs to

    def outcomes(self, model: AdapterModel, adapter: Vector) -> Outcomes:
        """What ``model`` with ``adapter`` makes of everybody's records; groups are the hospitals."""
        set_vector(model, adapter)
        return replace(self.task.outcomes(model, self.records), groups=self.site)


def evaluation_set(run: Run, sites: Sequence[EncodedSite]) -> EvaluationSet:
    """Everybody's evaluation records."""
    records = Records.pool([site.evaluation for site in sites])
    owner = np.repeat(np.arange(len(sites)), [len(site.evaluation) for site in sites])
    return EvaluationSet(local_task(run.task.name), records, owner[records.order])


def train_apart(
    records: Records, evaluation: EvaluationSet, shared: Shared, stream: SecureStream, *, hospitals: int = 1
) -> Outcomes:
    """Trains one adapter on ``records`` without any federation and scores everybody's evaluation records.

    ``stream`` gives noise and sampling; ``hospitals`` is how many were pooled, and the denominator grows with it.
    """
    run, task, model = shared.run, evaluation.task, build_model(shared.run, shared.files)
    units, microbatch = run.plan.privacy.units_per_site * hospitals, shared.speed.microbatch
    trainer = LocalTrainer(
        model, records, run, task, stream, units_per_site=units, microbatch=microbatch, federated=False
    )
    for round_number in range(1, run.plan.training.rounds + 1):
        trainer.run(get_vector(model), run.private_steps, round_number=round_number)
    return evaluation.outcomes(model, get_vector(model))


def compare(
    shared: Shared, wanted: CompareConfig, sites: Sequence[EncodedSite], evaluation: EvaluationSet
) -> dict[str, Outcomes]:
    """Trains each hospital alone and everything pooled, as far as ``wanted``, several at a time; by name."""
    jobs: dict[str, Future[Outcomes]] = {}

    def submit(name: str, purpose: str, records: Records, hospitals: int) -> None:
        stream = shared.randomness.stream(purpose, name)
        jobs[name] = pool.submit(train_apart, records, evaluation, shared, stream, hospitals=hospitals)

    with ThreadPoolExecutor(max_workers=shared.speed.hospitals_at_once) as pool:
        if wanted.central:  # the longest first
            submit(POOLED, "pooled", Records.pool([site.train for site in sites]), len(sites))
        for site in sites if wanted.local else []:
            submit(site.name, "alone", site.train, 1)
        if jobs:
            shared.display.phase("each hospital alone, and all data pooled", len(jobs))
        for job in as_completed(jobs.values()):
            job.result()
            shared.display.advance()
    return {name: job.result() for name, job in jobs.items()}
