"""``fedward audit RUN``: from the folder of a finished run to its ``audit.json`` and a report that shows it.

There are two attacks. *Canaries* are made-up patients, each of whom took part or not by a coin of its own, and what the
run shows about them. *Membership inference* tries to tell a run's training patients from its evaluation patients by its
adapter. Both populations come from the same hospitals by a split that depends on the patient alone, so whatever tells
them apart is memory.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

import fedward
from fedward.adapter import Vector
from fedward.client.data import Example
from fedward.client.models.adapter_files import adapter_files_hash, load_adapter
from fedward.client.models.adapter_model import AdapterModel, get_vector, layout_of, resolve_run, set_vector, trainable
from fedward.client.models.registry import ModelFiles, resolve
from fedward.client.records import Records
from fedward.client.tasks import LocalTask, local_task
from fedward.client.tasks.language import Conversation, Running
from fedward.errors import ConfigError
from fedward.measures import Outcomes
from fedward.plan import Plan
from fedward.planning.budget import RunBudget
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import Scenario, SpeedConfig
from fedward.privacy.audit import canary_bound, guesses_for, offline_lira, roc
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.run import Run
from fedward.simulations.audit.document import (
    AttackFinding,
    AuditDocument,
    CanaryFinding,
    LowRateFinding,
    MembershipFinding,
    MemoryFinding,
    add_to_card,
    write_audit,
)
from fedward.simulations.audit.memory import Attacker, Planted, Words, memory_finding
from fedward.simulations.federation import EvaluationSet, Outcome, Shared, federate, train_apart
from fedward.simulations.parties import EncodedSite, Randomness, SiteData, make_sites
from fedward.simulations.report import write_report
from fedward.simulations.result import RunResult, read_result
from fedward.simulations.run import SCENARIO_FILE
from fedward.simulations.terminal import RunDisplay

CANARIES = 100
NUISANCE = 200  # evaluation patients whose gradients stand for those of everybody else
PREFIX = "canary-"
WORDS, REPEATS = 3, 8
GRADIENT_BATCH = 64
LEAST_RIDGE = 1e-4

LOSS_ATTACK = "loss threshold"
LIRA_ATTACK = "likelihood ratio, reference models (LiRA, offline)"
PAIRS = 2  # of reference models; the two of a pair train on complementary halves of all patients

_refusal = partial(ConfigError, code="FW-AUDIT-002")


@dataclass(frozen=True)
class Audited:
    """A finished run, read back and made ready to be trained again."""

    result: RunResult
    scenario: Scenario
    run: Run
    files: ModelFiles
    model: AdapterModel
    adapter: Vector
    epsilon: float
    delta: float


def audit_run(folder: Path, *, canaries: int = CANARIES, display: RunDisplay) -> AuditDocument:
    """Audits the run in ``folder`` with ``canaries`` canaries, writes ``audit.json`` into it and renews its report.

    The training is repeated with the same plan and fresh noise; what it produces is thrown away. ``audit.json`` holds
    exact statistics of the hospitals' patients, as ``result.json`` does: both belong to the simulation.

    Raises FW-CONFIG-020 (the folder holds no result), FW-AUDIT-002 (the run is not private, or cannot be made again),
    DataError (its data are not on this machine).
    """
    began = time.monotonic()
    audited = read_run(folder)
    run, files, model, speed = audited.run, audited.files, audited.model, audited.scenario.speed
    torch.set_num_threads(speed.torch_threads)
    sites = hospitals_of(audited)
    with display:
        rounds, unit = run.plan.training.rounds, run.plan.privacy.unit
        name = f"audit of {run.plan.name}"
        display.start(name, hospitals=len(sites), rounds=rounds, epsilon=audited.epsilon, unit=unit)
        birds = make_canaries(sites, canaries, SecureStream.from_os(), run=run, files=files, model=model)
        memory = Memory.of(audited, sites)
        outcome = train_again(audited, memory.insert(birds.insert(sites)), display)
        found = canary_finding(audited, birds, outcome)
        attacks = membership(model, audited.adapter, outcome.sites, run, files, speed, display)
        remembered = memory.finding(outcome, display)
    document = AuditDocument(
        fedward_version=fedward.__version__,
        created=datetime.now(UTC),
        adapter_sha256=audited.result.adapter_sha256,
        epsilon_certified=audited.epsilon,
        delta=audited.delta,
        canaries=found,
        membership=attacks,
        memory=remembered,
        seconds=time.monotonic() - began,
    )
    write_audit(document, folder)
    write_report(audited.result, folder, audit=document)
    add_to_card(document, folder / "adapter" / "README.md")
    return document


def read_run(folder: Path) -> Audited:
    """Reads a run back and derives its plan again.

    Raises FW-CONFIG-020 (no result), FW-MODEL-005 (no whole adapter), FW-AUDIT-002 (nothing that could be audited).
    """
    result = read_result(folder)
    privacy = result.privacy
    if not privacy.private or privacy.epsilon_max is None or privacy.delta is None:
        raise _refusal(
            "The run is NON-PRIVATE, so there is no promise to audit.", fix="Audit a run with differential privacy."
        )
    scenario = read_scenario(folder)
    files = resolve(scenario.model)
    run = resolve_run(make_plan(scenario, files), files.config())
    if run.kind.declaration.personal:
        raise _refusal(
            f"The strategy {scenario.strategy!r} leaves part of the model at each hospital: what is shared predicts "
            "nothing that could be attacked.",
            fix="Audit a run with one model for all, or the training engine with `fedward audit --self-test`.",
        )
    model = load_adapter(folder / "adapter", base=files)
    if adapter_files_hash(folder / "adapter") != result.adapter_sha256:
        raise _refusal("The adapter in the folder is not the one of its result.")
    planned, steps = run.plan.privacy, run.plan.training.rounds * run.private_steps
    now = (planned.noise_multiplier, planned.clip, steps, files.sha256)
    if now != (privacy.noise_multiplier, privacy.clip, privacy.steps, result.base_model.sha256):
        raise _refusal("The plan of this run comes out otherwise with this version of fedward.")
    return Audited(result, scenario, run, files, model, get_vector(model), privacy.epsilon_max, privacy.delta)


def read_scenario(folder: Path) -> Scenario:
    """The scenario that ``fedward simulate`` left beside the result. Raises FW-AUDIT-002 (none of this version)."""
    try:
        return Scenario.model_validate_json((folder / SCENARIO_FILE).read_bytes()).check()
    except (OSError, ValidationError) as error:
        raise _refusal(f"The run has no readable {SCENARIO_FILE}, so it cannot be made again.") from error


def hospitals_of(audited: Audited) -> list[SiteData]:
    """The run's hospitals, drawn or read again. Raises DataError (no data), FW-AUDIT-002 (not those of the run)."""
    sites = make_sites(audited.scenario, audited.run.plan)
    task = local_task(audited.run.task.name)
    now = [(s.name, _units(s.train), _units(s.evaluation), task.positives(task.targets(s.evaluation))) for s in sites]
    then = [(row.name, row.train_units, row.evaluation_units, row.positives) for row in audited.result.hospitals]
    if now != then:
        raise _refusal("The hospitals' records are not those of the run.", fix="Restore the run's data.")
    return sites


def _units(examples: Sequence[Example]) -> int:
    return len({example.unit for example in examples})


def train_again(audited: Audited, sites: list[SiteData], display: RunDisplay, *, run: Run | None = None) -> Outcome:
    """The run's federation over ``sites`` with fresh noise; its ledgers are thrown away like its adapter.

    ``run`` is another than the audited one, such as the same without privacy.
    """
    run = audited.run if run is None else run
    with tempfile.TemporaryDirectory(prefix="fedward-audit-") as state:
        budget = RunBudget(run, f"audit-{secrets.token_hex(8)}", Path(state), cap=run.plan.privacy.epsilon)
        shared = Shared(run, audited.scenario.speed, display, Randomness(), audited.files)
        return federate(shared, sites, budget=budget)


@dataclass(frozen=True)
class Memory:
    """Sentences that are planted where the audited run trains a language model that writes; else nothing."""

    audited: Audited
    sites: list[SiteData]
    planted: Planted | None
    attacker: Attacker | None

    @classmethod
    def of(cls, audited: Audited, sites: list[SiteData]) -> Memory:
        """Draws the sentences."""
        task = local_task(audited.run.task.name)
        if not isinstance(task, Conversation | Running):
            return cls(audited, sites, None, None)
        words = Words(sites, SecureStream.from_os())
        attacker = Attacker(task, audited.files, audited.run.plan.adapter.max_tokens, words)
        return cls(audited, sites, Planted.draw(sites, words, f"{PREFIX}planted"), attacker)

    def insert(self, sites: list[SiteData]) -> list[SiteData]:
        """The hospitals with the sentences in the records of one unit."""
        if self.planted is None or self.attacker is None:
            return sites
        return self.planted.insert(sites, self.attacker.task)

    def finding(self, outcome: Outcome, display: RunDisplay) -> MemoryFinding | None:
        """What ``outcome`` shows of them, trained with privacy, and what the same run shows without."""
        if self.planted is None or self.attacker is None:
            return None
        set_vector(outcome.model, outcome.adapter)
        found = self.attacker.findings(outcome.model, self.planted, private=True)
        scenario, files = self.audited.scenario, self.audited.files
        privacy = scenario.privacy.model_copy(update={"private": False})
        plan = make_plan(scenario.model_copy(update={"privacy": privacy}), files)
        run = resolve_run(plan, files.config())
        open_run = train_again(self.audited, self.insert(self.sites), display, run=run)
        set_vector(open_run.model, open_run.adapter)
        found += self.attacker.findings(open_run.model, self.planted, private=False)
        return memory_finding(self.planted.hospital, found)


def canary_finding(audited: Audited, canaries: Canaries, outcome: Outcome) -> CanaryFinding:
    """Guesses which canaries took part and bounds epsilon."""
    plan, model, task = audited.run.plan, outcome.model, local_task(audited.run.task.name)
    records = Records.encode(canaries.examples, task, audited.files, model, max_tokens=plan.adapter.max_tokens)
    others = Records.pool([site.evaluation for site in outcome.sites])
    population = chosen(others, np.linspace(0, len(others) - 1, min(NUISANCE, len(others)), dtype=np.int64))
    seen = outcome.adapters[: plan.training.rounds + 1]
    parties = len(outcome.sites) if plan.privacy.placement == "local" else 1
    scores = canary_scores(seen, model, records, population, plan, task, parties=parties)
    included, guesses = canaries.included[records.order], guesses_for(len(records))
    bound = canary_bound(included, scores, delta=audited.delta, guesses=guesses)
    return CanaryFinding(hospital=canaries.hospital, included=int(canaries.included.sum()), **asdict(bound))


@dataclass(frozen=True)
class Canaries:
    """Canaries, with texts that no patient has; which ones were ``included`` (bool ``[m]``), and in which hospital."""

    examples: tuple[Example, ...]
    included: NDArray[np.bool_]
    hospital: str

    def insert(self, sites: Sequence[SiteData]) -> list[SiteData]:
        """The hospitals, with the included canaries among the training patients of one."""
        chosen = [example for example, included in zip(self.examples, self.included, strict=True) if included]
        return [replace(site, train=(*site.train, *chosen)) if site.name == self.hospital else site for site in sites]


def make_canaries(
    sites: Sequence[SiteData], count: int, stream: SecureStream, *, run: Run, files: ModelFiles, model: AdapterModel
) -> Canaries:
    """Draws ``count`` canaries for the hospital with the most training patients, where they change its mix least.

    A canary says three words of the hospitals' vocabulary over and over, so that its gradient points where hardly any
    patient's does. Its outcome is the one that the audited adapter, held by ``model``, thinks less likely: a gradient
    that has died down would leave no trace. Neither depends on the coins.
    """
    words = sorted({word for site in sites for example in site.train for word in example.text.split()})
    places = stream.uint64(count * WORDS).reshape(count, WORDS) % np.uint64(len(words))
    texts = [" ".join([words[int(place)] for place in row] * REPEATS) for row in places]
    task, label = local_task(run.task.name), sites[0].train[0].label  # of any kind: it is replaced below
    blank = [task.canary(f"{PREFIX}{number}", text, label) for number, text in enumerate(texts)]
    records = Records.encode(blank, task, files, model, max_tokens=run.plan.adapter.max_tokens)
    unlikely = dict(zip(records.order.tolist(), task.unlikely(task.outcomes(model, records)), strict=True))
    return Canaries(
        examples=tuple(replace(each, label=unlikely[place]) for place, each in enumerate(blank)),
        included=(stream.uint64(count) & np.uint64(1)).astype(np.bool_),
        hospital=max(sites, key=lambda site: (len(site.train), site.name)).name,
    )


def canary_scores(
    adapters: Sequence[Vector],
    model: AdapterModel,
    canaries: Records,
    population: Records,
    plan: Plan,
    task: LocalTask,
    *,
    parties: int,
) -> NDArray[np.float64]:
    """How much each canary looks included, ``[m]``, to somebody who saw the adapter after every round.

    Every round's change of the adapter is explained, as well as possible, as a sum of steps against gradients of
    canaries and of patients like those who trained (ridge regression over all rounds together); a canary's score is its
    share. The change is divided by its usual size in each tensor, because head and adapter learn at different rates.
    The penalty is the noise of the plan over the weight that a canary has in a round.

    ``adapters`` are those before the first round and after each, ``population`` patients who did not train (nuisance
    only), ``parties`` how many hospitals' noise is in the sum. Scores are in the order of the records.
    """
    moves = np.diff(np.stack(adapters).astype(np.float64), axis=0)
    sizes = [tensor.size for tensor in layout_of(model).tensors]
    spread = np.array([np.sqrt((part**2).mean()) for part in np.split(moves, np.cumsum(sizes)[:-1], axis=1)])
    usual = np.repeat(np.where(spread > 0, spread, 1.0), sizes)  # root mean square in each tensor, for its entries
    count = len(canaries) + len(population)
    gram, along = np.zeros((count, count)), np.zeros(count)
    for before, move in zip(adapters[:-1], moves, strict=True):
        parts = (gradients(model, before, part, task, clip=plan.privacy.clip) for part in (canaries, population))
        rows = np.concatenate([*parts])
        gram += rows @ rows.T
        along -= rows @ (move / usual).astype(np.float32)
    privacy = plan.privacy
    noise = parties * plan.training.local_steps * (privacy.noise_multiplier * privacy.clip) ** 2
    weight = plan.training.local_steps * privacy.sampling_rate
    penalty = 4 * noise / weight**2 + LEAST_RIDGE * float(np.trace(gram)) / count  # 1/4 is the variance of a coin
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(count), along)[: len(canaries)])


def gradients(
    model: AdapterModel, adapter: Vector, records: Records, task: LocalTask, *, clip: float
) -> NDArray[np.float32]:
    """Clipped gradient of every record at ``adapter``, ``[N, P]`` in the order of the records and of the layout."""
    set_vector(model, adapter)
    parameters = trainable(model)
    ordered = [parameters[tensor.name] for tensor in layout_of(model).tensors]
    params = DPParameters(noise_multiplier=1.0, clip=clip, sampling_rate=1.0, expected_batch=1.0)

    def losses(rows: NDArray[np.int64]) -> torch.Tensor:
        return task.losses(model, records, rows)

    found = np.empty((len(records), adapter.size), np.float32)
    optimizer = torch.optim.SGD(ordered, lr=0.0)  # gives the engine its order of parameters and never steps
    with PrivateEngine(model, optimizer, params, SecureStream.from_os(), backend="fast") as engine:
        for start in range(0, len(records), GRADIENT_BATCH):
            rows = np.arange(start, min(start + GRADIENT_BATCH, len(records)))
            _, found[rows] = engine.gradients(losses, rows)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    found *= np.minimum(1.0, clip / np.maximum(norms, 1e-12))
    return found


def membership(
    model: AdapterModel,
    adapter: Vector,
    sites: Sequence[EncodedSite],
    run: Run,
    files: ModelFiles,
    speed: SpeedConfig,
    display: RunDisplay,
) -> MembershipFinding:
    """Attacks ``adapter`` with a loss threshold (Yeom et al. 2018) and with reference models (Carlini et al. 2022).

    Canaries among the records of ``sites`` are left out. The reference models are trained as ``run`` says, on all
    hospitals' patients together.
    """
    trained, held_out = [_without_canaries(site.train) for site in sites], [site.evaluation for site in sites]
    everybody = Records.pool(trained + held_out)
    member = np.zeros(int(everybody.units.max()) + 1, np.bool_)
    trained_by_run = np.repeat([True, False], [sum(map(len, trained)), sum(map(len, held_out))])
    member[everybody.units] = trained_by_run[everybody.order]
    audience = EvaluationSet(local_task(run.task.name), everybody, np.zeros(len(everybody), np.int64))
    halves, shared = _halves(len(member), SecureStream.from_os()), Shared(run, speed, display, Randomness(), files)

    def of_reference(half: NDArray[np.bool_]) -> NDArray[np.float64]:
        records, stream = chosen(everybody, np.flatnonzero(half[everybody.units])), SecureStream.from_os()
        return _confidence(train_apart(records, audience, shared, stream, hospitals=len(sites)))

    target = _confidence(audience.outcomes(model, adapter))
    references = display.over("reference models", of_reference, list(halves), threads=speed.hospitals_at_once)
    attacks = {LOSS_ATTACK: target, LIRA_ATTACK: offline_lira(target, np.stack(references), halves)}
    return MembershipFinding(
        members=int(member.sum()),
        others=int((~member).sum()),
        reference_models=len(halves),
        attacks=tuple(_finding(name, score[member], score[~member]) for name, score in attacks.items()),
    )


def chosen(records: Records, rows: NDArray[np.int64]) -> Records:
    """Some of ``records``, in the order of ``rows`` (ascending), as a population of their own."""
    _, units = np.unique(records.units[rows], return_inverse=True)
    return Records(
        inputs=records.inputs.chosen(rows),
        targets=records.targets[rows],
        units=units.astype(np.int64),
        names=tuple(records.names[row] for row in rows),
        order=np.arange(len(rows), dtype=np.int64),
    )


def _without_canaries(records: Records) -> Records:
    kept = [place for place, name in enumerate(records.names) if not name.startswith(PREFIX)]
    return chosen(records, np.array(kept, np.int64))


def _halves(count: int, stream: SecureStream) -> NDArray[np.bool_]:
    """Which of ``count`` units train each reference model, bool ``[2 PAIRS, count]``; each is left out of half."""
    halves = np.zeros((2 * PAIRS, count), np.bool_)
    for pair in range(PAIRS):
        first = np.argsort(stream.uint64(count), kind="stable")[: count // 2]
        halves[2 * pair, first] = True
        halves[2 * pair + 1] = ~halves[2 * pair]
    return halves


def _confidence(outcomes: Outcomes) -> NDArray[np.float64]:
    """Log odds of p = exp(-loss), the probability that a cross-entropy gives to what happened; mean by unit."""
    odds = np.asarray(-np.log(np.expm1(np.maximum(outcomes.losses, 1e-12))), dtype=np.float64)
    return outcomes.per_unit(odds[:, None])[:, 0]


def _finding(name: str, members: NDArray[np.float64], others: NDArray[np.float64]) -> AttackFinding:
    found = roc(members, others)
    low = tuple(LowRateFinding(**asdict(point)) for point in found.low)
    return AttackFinding(attack=name, auc=found.auc, auc_interval=found.interval, low=low)
