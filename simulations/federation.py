"""A whole federation in one process: the coordinator's and the hospitals' own code over an in-process grid."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from flwr.app import Context, RecordDict

from fedward.adapter import Vector
from fedward.client.flower import make_client_app
from fedward.client.models.adapter_model import AdapterModel, build_model, get_vector
from fedward.client.models.registry import ModelFiles
from fedward.measures import Outcomes
from fedward.planning.budget import RunBudget, planned_epsilons
from fedward.planning.scenario import SpeedConfig
from fedward.privacy.secagg import MemoryJournal, RingVector, RoundSum, SecAggServer, minimum_threshold
from fedward.run import EVALUATION, Run
from fedward.server.flower import GridTransport, make_server_app
from fedward.server.rounds import Coordinator, Incident, RoundSummary
from fedward.simulations.faults import let_vanish
from fedward.simulations.flower import InProcessGrid
from fedward.simulations.parties import Agreement, EncodedSite, WatchedHospital, agree, make_hospital
from fedward.simulations.result import CurvePoint, SecureSum
from fedward.simulations.seeds import Randomness
from fedward.simulations.sites import SiteData
from fedward.simulations.terminal import RunDisplay
from fedward.stages import Stage

HELLO_SECONDS = 60


@dataclass
class Outcome:
    """What a federation leaves behind.

    Attributes:
        adapter: the final global adapter.
        adapters: the global adapter before the first round and after each, as every party saw them.
        model: a model to hold it.
        sites: the records it was trained and scored on, for the models trained beside it.
        curve: what the coordinator saw, adapter by adapter; round 0 is the untrained one.
        secure_sum: whether every unmasked sum was the plain sum of the survivors' vectors, bit for bit.
        lifetime: epsilon that each hospital's ledger composes over every run it holds.
        bytes_up: mean bytes that left a hospital in a round, by stage.
        incidents: replies that did not count.
        personal: what each hospital's own model makes of its own evaluation records, by hospital; empty where one
            model serves all.
    """

    adapter: Vector
    adapters: tuple[Vector, ...]
    model: AdapterModel
    sites: tuple[EncodedSite, ...]
    curve: tuple[CurvePoint, ...]
    secure_sum: SecureSum
    bytes_up: dict[Stage, float]
    lifetime: dict[str, float]
    incidents: list[Incident]
    personal: Mapping[str, Outcomes]


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
        # The first sum of training round r scores the adapter that it started from, which is that of round r - 1.
        number = self.run.step(summary.round).round - 1
        if EVALUATION not in done.layout.spans:
            self.display.advance()
            return
        point = CurvePoint(
            round=number,
            measures=dict(summary.measures),
            epsilon=self.epsilons[number],
            taken_back=summary.taken_back,
        )
        self.curve.append(point)
        now = time.monotonic()
        self.display.round_done(point, now - self._since)
        self._since = now


def federate(
    run: Run,
    sites: Sequence[SiteData],
    files: ModelFiles,
    randomness: Randomness,
    speed: SpeedConfig,
    display: RunDisplay,
    *,
    budget: RunBudget,
    dropouts: int = 0,
    fault_seed: int = 0,
) -> Outcome:
    """Plays ``run`` over ``sites``.

    Raises:
        QuorumError: too few hospitals remain.
        BudgetError: a hospital's ledger has no room for the run; before any training.
    """
    ledgers = budget.open(site.name for site in sites)
    plan, reference = run.plan, build_model(run, files)
    agreement = agree(run, [site.name for site in sites])
    encoded = _encode(run, sites, files, reference, speed, display)
    hospitals = [
        make_hospital(
            run, site, files, agreement, randomness, ledger=ledgers.get(site.name), microbatch=speed.microbatch
        )
        for site in encoded
    ]
    n, c = run.kind.smallest_sum(plan, len(sites)), agreement.roster.colluders
    threshold = minimum_threshold(n, c)
    answering = let_vanish(hospitals, dropouts, rounds=plan.training.rounds, tolerated=n - threshold, seed=fault_seed)
    budget.charge(ledgers)
    apps = {node: make_client_app(site) for node, site in enumerate(answering, start=2)}
    grid = InProcessGrid(apps, threads=speed.hospitals_at_once)
    watcher = Watcher(run, {hospital.name: hospital for hospital in hospitals}, planned_epsilons(run), display)
    display.phase("federated", plan.training.rounds)
    try:
        coordinator, transport = _serve(run, budget.run, reference, agreement, grid, watcher)
    finally:
        grid.close()
    return Outcome(
        adapter=coordinator.adapter,
        adapters=tuple(watcher.adapters),
        model=reference,
        sites=tuple(encoded),
        curve=tuple(watcher.curve),
        secure_sum=SecureSum(
            exact=watcher.exact,
            ring_bits=32 if run.sums_gradients else plan.secure_sum.delta_ring_bits,
            threshold=threshold,
            colluders=c,
            cohort=n,
        ),
        bytes_up=transport.mean_up(rounds=plan.training.rounds + 1, sites=len(sites)),
        lifetime={name: ledger.spent() for name, ledger in ledgers.items()},
        incidents=coordinator.incidents,
        personal=_personal(run, hospitals),
    )


def _personal(run: Run, hospitals: Sequence[WatchedHospital]) -> dict[str, Outcomes]:
    if not run.kind.declaration.personalises:
        return {}
    return {hospital.name: hospital.evaluate() for hospital in hospitals}


def _encode(
    run: Run,
    sites: Sequence[SiteData],
    files: ModelFiles,
    model: AdapterModel,
    speed: SpeedConfig,
    display: RunDisplay,
) -> list[EncodedSite]:
    """Everybody's records as the model reads them; with a real encoder this takes as long as some rounds."""
    display.phase("reading the records", len(sites))
    encoded = []
    with ThreadPoolExecutor(max_workers=speed.hospitals_at_once) as pool:
        for site in pool.map(lambda site: EncodedSite.encode(site, run, files, model), sites):
            encoded.append(site)
            display.advance()
    return encoded


def _serve(
    run: Run, name: str, model: AdapterModel, agreement: Agreement, grid: InProcessGrid, watcher: Watcher
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
            adapter=get_vector(model),
            secagg=SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal()),
            colluders=agreement.roster.colluders,
            transport=transport,
            on_round=on_round,
        )
        watcher.adapters.append(coordinator.adapter)
        coordinator.run()
        ran.append((coordinator, transport))

    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    make_server_app(main)(grid, context)
    return ran[0]
