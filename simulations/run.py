"""Simulation of a scenario, from its file to its folder: data, federation, comparison, result, report.

Everything is written into a folder beside ``--out`` and moved into place at the end, so ``--out``
holds a whole result or none. What a run says about itself is in its result document, the certificate in it and the
adapter's card; scores here are the simulator's omniscient view.
"""

import math
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch

import fedward
from fedward.client.models.adapter_files import PrivacySection, save_adapter
from fedward.client.models.adapter_model import SUM_SCALE, resolve_run, set_vector
from fedward.client.models.families.family import LANGUAGE_HEADS, Pooling
from fedward.client.models.registry import ModelFiles, resolve
from fedward.client.tasks import local_task
from fedward.errors import ConfigError, ResourceError
from fedward.measures import Outcomes, bootstrap_interval
from fedward.messages import Stage
from fedward.planning.budget import LIFETIME_EPSILON, RunBudget
from fedward.planning.estimate import draft_plan, with_noise
from fedward.planning.scenario import Scenario
from fedward.privacy.accounting import epsilon, epsilon_everybody
from fedward.privacy.dpsgd.crosscheck import NOT_COVERED, certify
from fedward.privacy.events import Event
from fedward.run import Run, Schedule, shares_among
from fedward.simulations import result as document
from fedward.simulations import wording
from fedward.simulations.federation import POOLED, EvaluationSet, Outcome, Shared, compare, evaluation_set, federate
from fedward.simulations.parties import Randomness, SiteData, make_sites
from fedward.simulations.report import write_report
from fedward.simulations.result import Privacy, Release, RunResult, SecureSum, write_atomically, write_result
from fedward.simulations.samples import check_samples, write_samples
from fedward.simulations.synthetic.hospital import BEST_POSSIBLE
from fedward.simulations.terminal import Mode, RunDisplay
from fedward.strategies.registry import in_words
from fedward.tasks.task import HeadKind
from fedward.units import UNITS

LEDGERS = "ledgers"
SCENARIO_FILE = "scenario.json"
"""The scenario with the command line's changes, from which `fedward audit` makes the run again."""

SHARES = (
    "Statistics carry shares of the noise: their part of epsilon holds against the coordinator as long as at least "
    "{honest} hospitals in every sum add theirs and the secure sum hides each vector."
)
_SHARED_STEPS = (
    "{what} carry shares of the noise: epsilon holds as long as at most {colluders} of the hospitals leave theirs out "
    "or disclose them (c = {colluders}), so that at least {honest} (t - c) honest ones remain in every sum of at least "
    "{threshold} (t), and the secure sum hides each vector."
)
TWICE_IN_A_SUM = (
    "A {unit} of two hospitals is in each sum twice: for such a {unit} epsilon doubles and delta is multiplied by "
    "1 + exp(epsilon)."
)
_SHARED_MECHANISM = (
    "Poisson-subsampled clipped gradient sums and statistics with discrete Gaussian noise shares inside a secure sum, "
    "priced as Gaussian (ADR 0002, ADR 0005)"
)
_CLIPPING = {
    "fixed": "",
    "adaptive": "; clip norm by a noised count of {units} within the same noise multiplier (Andrew et al. 2021)",
    "automatic": "; automatic clipping (Bu et al. 2023)",
}
SEEDED = "The noise came from a known seed (--unsafe-seeded-noise) and can be subtracted."
_EXACT_EVALUATION = "Evaluation {units}: their statistics left without noise (unsafe_exact_evaluation)."
_RESULT = "The scores, intervals and {unit} counts in this result: exact, and known to the simulator only."
_COMPARISON = "The local and central models of the comparison, which exist in this simulation only."

_CARD = """# Adapter of the run {name}
{banner}
A LoRA adapter (rank {rank}, alpha {alpha:g}){head} {outcome}.
Trained by {hospitals} simulated hospitals over {rounds} rounds with the strategy `{strategy}`; the coordinator saw
only sums of masked deltas. Base model: `{base}` (SHA-256 `{base_sha}`).
{shared}
**Not for clinical use.** {privacy}

{usage}"""

_USE_HEAD = """## Load it with peft
```python
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, PreTrainedTokenizerFast

base = "..."                                        # `fedward models path {base}` prints the folder
encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(base), ".").eval()
head = load_file("head.safetensors")
tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
texts = ["age 70s . male . micu . lactate high"]
batch = tokenizer(texts, padding=True, truncation=True, max_length={max_tokens}, return_tensors="pt")
with torch.no_grad():
    hidden = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
mask = batch["attention_mask"].unsqueeze(-1).float()
pooled = {pooled}
risk = torch.sigmoid(pooled @ head["weight"].T + head["bias"]).squeeze(-1)
```
`fedward evaluate FOLDER --data DIR --format mimic-iii` does the same and scores it.
"""

_POOLED = {
    "mean": "(hidden * mask).sum(1) / mask.sum(1)",
    "sum": f"(hidden * mask).sum(1) / {SUM_SCALE:g}",
    "last": "hidden[range(len(hidden)), (batch['attention_mask'] * torch.arange(hidden.shape[1])).argmax(1)]",
}

_USE_LANGUAGE_MODEL = """## Load it with peft
```python
from peft import PeftModel
from transformers import {language_class}, PreTrainedTokenizerFast

base = "..."                                        # `fedward models path {base}` prints the folder
model = PeftModel.from_pretrained({language_class}.from_pretrained(base), ".").eval()
tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
{language_use}
```
`fedward evaluate FOLDER --data FILE` scores it.
"""

_SPEAKING = """prompt = tokenizer("The patient", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40)[0]))"""
_FILLING = """hidden = tokenizer(f"The patient has {tokenizer.mask_token or '[MASK]'}.", return_tensors="pt")
print(tokenizer.decode(model(**hidden)[0][0].argmax(-1)))"""
LANGUAGE_CLASSES: dict[HeadKind, tuple[str, str]] = {
    "causal": ("AutoModelForCausalLM", _SPEAKING),
    "seq2seq": ("AutoModelForSeq2SeqLM", _SPEAKING),
    "masked": ("AutoModelForMaskedLM", _FILLING),
}
"""By the kind of head: the class of transformers, and how it is used."""

_BANNER = """
**NON-PRIVATE: share this adapter only where the training data themselves may be shared.**
"""

_SHARED = """
**This is the shared part alone.** With this strategy every hospital keeps a part of its own, which never left it. The
scores in result.json are those of the hospitals' own models, not of this adapter.
"""


@dataclass(frozen=True)
class Options:
    """What the command line may change about a scenario, and where the result goes."""

    out: Path
    force: bool = False
    seed: int | None = None
    epsilon: float | None = None
    no_dp: bool = False
    placement: Literal["local", "secure-grad"] | None = None
    strategy: str | None = None
    rounds: int | None = None
    hospitals: int | None = None
    dropouts: int = 0
    federated_only: bool = False
    state: Path | None = None
    lifetime_epsilon: float = LIFETIME_EPSILON
    unsafe_seeded_noise: bool = False
    display: Mode = "auto"


@dataclass
class Stopwatch:
    """Wall-clock seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def lap(self, phase: str) -> None:
        """Books the time since the last lap under ``phase``."""
        now = time.monotonic()
        self.seconds[phase], self._started = now - self._started, now


def apply_options(scenario: Scenario, options: Options) -> Scenario:
    """The scenario with the command line's changes, checked again; ``rounds`` counts after ``placement``."""
    if options.placement is not None:
        scenario = scenario.placed(options.placement)
    change: dict[str, object] = {}
    if options.seed is not None:
        change["seed"] = options.seed
    if options.strategy not in (None, scenario.strategy):  # options are of the strategy that they stand beside
        change |= {"strategy": options.strategy, "strategy_options": {}}
    if options.hospitals is not None:
        change["data"] = scenario.data.model_copy(update={"hospitals": options.hospitals})
    if options.rounds is not None:
        change["training"] = scenario.training.model_copy(update={"rounds": options.rounds})
    privacy = scenario.privacy
    if options.epsilon is not None:
        privacy = privacy.model_copy(update={"epsilon": options.epsilon, "private": True})
    if options.no_dp:
        privacy = privacy.model_copy(update={"private": False})
    if options.federated_only:
        change["compare"] = scenario.compare.model_copy(update={"local": False, "central": False})
    return scenario.model_copy(update={**change, "privacy": privacy}).check()


def run_scenario(scenario: Scenario, options: Options) -> RunResult:
    """Runs ``scenario`` and writes the result to ``options.out``; after an error nothing is written there."""
    scenario = apply_options(scenario, options)
    check_output(options)
    torch.set_num_threads(scenario.speed.torch_threads)
    watch, display = Stopwatch(), RunDisplay(options.display)
    randomness = Randomness(scenario.seed if options.unsafe_seeded_noise else None)
    files = resolve(scenario.model)
    with display, staged(options) as folder:
        draft = draft_plan(scenario, files)
        check_samples(files, local_task(draft.task), scenario.samples)
        sites, privacy = make_sites(scenario, draft), draft.privacy
        promised, rounds = privacy.epsilon if privacy.private else None, draft.training.rounds
        display.start(draft.name, hospitals=len(sites), rounds=rounds, epsilon=promised, unit=privacy.unit)
        run = resolve_run(with_noise(draft, files), files.config())
        budget = open_budget(run, options, folder)
        watch.lap("data")
        shared = Shared(run, scenario.speed, display, randomness, files)
        outcome = federate(shared, sites, budget=budget, dropouts=options.dropouts, fault_seed=scenario.seed)
        watch.lap("federated")
        evaluation = evaluation_set(run, outcome.sites)
        comparison = compare(shared, scenario.compare, outcome.sites, evaluation)
        watch.lap("comparison")
        facts = Facts(scenario, run, sites, files, outcome, comparison, evaluation, options.unsafe_seeded_noise)
        adapter_sha256 = write_adapter(facts, folder)
        watch.lap("writing")
        private, shares = not non_private_reasons(facts), shares_among(run, len(sites))
        priced = certificate(run, private=private, secure_sum=outcome.secure_sum, shares=shares)
        watch.lap("certificate")
        result = assemble(facts, adapter_sha256, priced, watch.seconds)
        write_atomically(folder / SCENARIO_FILE, scenario.model_dump_json(indent=2) + "\n")
        write_result(result, folder)
        write_report(result, folder)
    display.finish(result, options.out)
    return result


def open_budget(run: Run, options: Options, folder: Path) -> RunBudget:
    """Ledgers in ``--state`` under the lifetime cap or, without it, fresh ones beside the result."""
    kept = options.state is not None
    if kept and not run.noises_evaluation:
        raise ConfigError(
            "A run without privacy, or with exact evaluation, cannot be booked in a ledger.", code="FW-CONFIG-032"
        )
    if kept and options.unsafe_seeded_noise:
        raise ConfigError(
            "A run whose noise comes from a known seed cannot be booked in a ledger.", code="FW-CONFIG-032"
        )
    name = f"{run.plan.name[:40]}-{secrets.token_hex(8)}"
    cap = options.lifetime_epsilon if kept else run.plan.privacy.epsilon
    return RunBudget(run, name, options.state or folder / LEDGERS, cap=cap)


def check_output(options: Options, result: str = document.RESULT_FILE) -> None:
    """Refuses an --out that holds anything, unless it is an earlier ``result`` and --force was given."""
    out = options.out
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / result).is_file():
        raise ConfigError(
            f"{out} exists and is not an earlier result.", code="FW-CONFIG-005", fix="Choose another --out folder."
        )
    if not options.force:
        raise ConfigError(f"{out} already holds a result.", code="FW-CONFIG-005")


@contextmanager
def staged(options: Options) -> Iterator[Path]:
    """A folder beside ``options.out`` that takes its place if the body succeeds and vanishes if not."""
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{options.out.name}-", dir=options.out.parent))
    except OSError as error:
        raise ResourceError(
            f"The folder of --out cannot be written ({error.strerror}).", code="FW-RESOURCE-021"
        ) from error
    try:
        staging.chmod(0o755)
        yield staging
        _replace(options.out, staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _replace(out: Path, staging: Path) -> None:
    """Moves ``staging`` to ``out``; an earlier result is deleted only once the new one stands in its place."""
    earlier = staging.with_name(f"{staging.name}-earlier")
    if out.exists():
        out.replace(earlier)
    try:
        staging.replace(out)
    except OSError:
        if earlier.exists():
            earlier.replace(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


@dataclass(frozen=True)
class Facts:
    """Everything a run knows when it ends."""

    scenario: Scenario
    run: Run
    sites: Sequence[SiteData]
    files: ModelFiles
    outcome: Outcome
    comparison: Mapping[str, Outcomes]
    evaluation: EvaluationSet
    seeded: bool

    def score(self, outcomes: Outcomes | None) -> float | None:
        """The headline measure of ``outcomes``."""
        return None if outcomes is None else self.run.task.headline.local(outcomes)

    def others(self, outcomes: Outcomes | None) -> dict[str, float | None]:
        """The other measures of the task, by name."""
        measures = self.run.task.measures[1:]
        return {} if outcomes is None else {measure.name: measure.local(outcomes) for measure in measures}

    def interval(self, outcomes: Outcomes | None) -> tuple[float, float] | None:
        """Its 95 % bootstrap interval."""
        if outcomes is None:
            return None
        return bootstrap_interval(self.run.task.headline, outcomes, seed=self.scenario.seed)

    def at(self, index: int, outcomes: Outcomes) -> Outcomes:
        """Those of ``outcomes`` that are of one hospital's records."""
        return outcomes.chosen(np.flatnonzero(self.evaluation.site == index))


def non_private_reasons(facts: Facts) -> list[str]:
    """Why the run must not be called private; empty if it may."""
    off, seeded = not facts.run.plan.privacy.private, facts.seeded
    reasons = ["Differential privacy was switched off."] if off else []
    return [*reasons, SEEDED] if seeded else reasons


def assemble(facts: Facts, adapter_sha256: str, privacy: Privacy, seconds: Mapping[str, float]) -> RunResult:
    """The document behind result.json, the table and the report."""
    plan, task, outcome, files = facts.run.plan, facts.run.task, facts.outcome, facts.files
    federated, sent = _federated(facts), outcome.bytes_up
    phases = {phase: seconds.get(phase, 0.0) for phase in ("data", "federated", "comparison")}
    parameters = sum(parameter.numel() for parameter in outcome.model.parameters())
    return RunResult(
        fedward_version=fedward.__version__,
        created=datetime.now(UTC),
        scenario=document.ScenarioFacts(
            name=plan.name,
            hospitals=len(facts.sites),
            task=task.name,
            outcome=task.outcome,
            model=files.name,
            strategy=facts.scenario.strategy,
            seed=facts.scenario.seed,
            personal=bool(outcome.personal),
        ),
        rounds=plan.training.rounds,
        headline=document.headline_of(task.name),
        scores=_scores(facts, federated),
        hospitals=tuple(_hospital(facts, i, federated, privacy.epsilon_max) for i in range(len(facts.sites))),
        privacy=privacy,
        non_private_reasons=tuple(non_private_reasons(facts)),
        secure_sum=outcome.secure_sum,
        bytes_per_round_per_hospital=sum(sent.values()),
        egress=tuple(
            document.Egress(message=stage.value, content=stage.content, protection=stage.protection, bytes=sent[stage])
            for stage in Stage
            if stage in sent
        ),
        curve=outcome.curve,
        samples=_samples(facts),
        base_model=document.BaseModelFacts(name=files.name, sha256=files.sha256),
        adapter=document.AdapterFacts(parameters=int(outcome.adapter.size), total=parameters),
        adapter_sha256=adapter_sha256,
        seconds=document.Seconds(total=sum(seconds.values()), **phases),
    )


def _federated(facts: Facts) -> Outcomes:
    """Everybody's evaluation records under the federated model or, where each hospital has its own, under that."""
    evaluation, outcome = facts.evaluation, facts.outcome
    if not outcome.personal:
        return evaluation.outcomes(outcome.model, outcome.adapter)
    records, own = evaluation.records, [outcome.personal[site.name] for site in facts.sites]
    scores = np.concatenate([found.scores for found in own])[records.order]
    losses = np.concatenate([found.losses for found in own])[records.order]
    targets = np.concatenate([found.targets for found in own])[records.order]
    return Outcomes(records.units, targets, scores, losses, evaluation.site)


def _scores(facts: Facts, federated: Outcomes) -> document.Scores:
    made, pooled, untrained = facts.comparison, facts.comparison.get(POOLED), _untrained(facts)
    alone = [(index, made[site.name]) for index, site in enumerate(facts.sites) if site.name in made]
    return document.Scores(
        federated=facts.score(federated),
        federated_interval=facts.interval(federated),
        local_mean=_mean([facts.score(found) for _, found in alone]),
        local_own_mean=_mean([facts.score(facts.at(index, found)) for index, found in alone]),
        central=facts.score(pooled),
        central_interval=facts.interval(pooled),
        best_possible=_best_possible(facts),
        untrained=facts.score(untrained),
        others=facts.others(federated),
        central_others=facts.others(pooled),
        untrained_others=facts.others(untrained),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _best_possible(facts: Facts) -> float | None:
    """The score of the truth on the same evaluation patients, where it is known."""
    known, best = [site for site in facts.sites if site.truth], BEST_POSSIBLE.get(facts.run.task.headline.name)
    if best is None or len(known) < len(facts.sites):
        return None
    return best([np.array([(site.truth or {})[e.patient_id] for e in site.evaluation]) for site in known])


def _untrained(facts: Facts) -> Outcomes | None:
    """What the start makes of the records where the base model brings the head; others say nothing untrained."""
    if facts.run.task.head.kind not in LANGUAGE_HEADS and facts.run.plan.adapter.start == "zero":
        return None
    start = facts.outcome.adapters[0]
    return facts.evaluation.outcomes(facts.outcome.model, start)


def _samples(facts: Facts) -> tuple[document.Sample, ...]:
    outcome, task = facts.outcome, facts.evaluation.task
    vectors = {"before": outcome.adapters[0], "after": outcome.adapter}
    return write_samples(outcome.model, facts.files, task, facts.scenario.samples, **vectors)


def _hospital(facts: Facts, index: int, federated: Outcomes, spent: float | None) -> document.HospitalResult:
    site, here = facts.sites[index], facts.at(index, federated)
    alone = facts.comparison.get(site.name)
    apart = None if alone is None else facts.at(index, alone)
    return document.HospitalResult(
        name=site.name,
        train_units=len({example.patient_id for example in site.train}),
        evaluation_units=len({example.patient_id for example in site.evaluation}),
        positives=facts.evaluation.task.positives(here.targets),
        alone=facts.score(apart),
        alone_interval=facts.interval(apart),
        alone_everywhere=facts.score(alone),
        federated=facts.score(here),
        federated_interval=facts.interval(here),
        epsilon=spent,
        epsilon_lifetime=facts.outcome.lifetime.get(site.name),
    )


def certificate(schedule: Schedule, *, private: bool, secure_sum: SecureSum, shares: int) -> Privacy:
    """Prices everything a run released about a unit: both populations, cross-checked, and what is not covered.

    If the noise is not secret (``private``), the numbers are nominal. Where noise is split, ``shares`` says into how
    many at most, t and c of ``secure_sum`` how many are certain. Raises FW-DP-020 (the cross-check fails, so no
    certificate is issued).
    """
    plan, delta, unit = schedule.plan.privacy, schedule.plan.privacy.delta, UNITS[schedule.plan.privacy.unit]
    common: dict[str, Any] = {
        "unit": unit.name,
        "sampling_rate": plan.sampling_rate,
        "steps": schedule.plan.training.rounds * schedule.private_steps,
        "expected_batch": plan.expected_batch,
    }
    if not plan.private:
        nothing: dict[str, Any] = dict.fromkeys(("epsilon_max", "delta", "noise_multiplier", "clip", "accountant"))
        sampler, exposed = f"Poisson over {unit.plural}", "Everything: the run had no differential privacy."
        common |= {"placement": "none", "mechanism": "none", "sampler": sampler, "not_covered": (exposed,)}
        return Privacy(private=False, **nothing, **common)
    training, evaluation = schedule.all_training_events(honest=shares), schedule.all_evaluation_events(honest=shares)
    certified = certify(training, delta, unit=unit.name, clip=plan.clip)
    worst, check = certified.spent.epsilon, certified.cross_check
    if evaluation:  # of other units than those of training, so the larger of the two counts
        worst = max(worst, certify(evaluation, delta).spent.epsilon)
    everybody = max(epsilon_everybody(events, delta) for events in (training, evaluation))
    mechanism = _SHARED_MECHANISM if schedule.sums_gradients else certified.mechanism
    measured = tuple(f"sums for {measure.title}" for measure in schedule.task.released)
    releases = [event for event in training if event.kind == "release"]
    exact = [] if schedule.noises_evaluation else [_EXACT_EVALUATION.format(units=unit.plural)]
    return Privacy(
        private=private,
        epsilon_max=worst,
        epsilon_everybody=finite(everybody),
        delta=delta,
        placement=plan.placement,
        mechanism=mechanism + _CLIPPING[plan.clipping].format(units=unit.plural),
        sampler=certified.sampler,
        noise_multiplier=plan.noise_multiplier,
        clip=plan.clip,
        accountant=certified.spent.accountant,
        cross_check=document.CrossCheck(
            accountant=check.accountant, epsilon=check.epsilon, rdp_epsilon=certified.spent.rdp_epsilon, agrees=True
        ),
        release=_release(("mean clipped loss", f"number of {unit.plural}"), releases, delta),
        evaluation=_release(measured, evaluation, delta, exact=schedule.evaluation_releases),
        assumptions=(*certified.assumptions, *_shares(schedule, secure_sum, everybody)),
        not_covered=(*NOT_COVERED, *exact, _RESULT.format(unit=unit.name), _COMPARISON),
        **common,
    )


def finite(value: float) -> float | None:
    """A price as documents hold it: None where noise shares are so small that no epsilon can be stated."""
    return value if math.isfinite(value) else None


def against_everybody(epsilon: float) -> str:
    """What a certificate says of noise shares and everybody else together."""
    price = f"epsilon is {epsilon:.3f}" if math.isfinite(epsilon) else "no epsilon can be stated at this delta"
    others = "All other hospitals and the coordinator together"
    return f"{others} can subtract every noise share but this hospital's own: against them {price}."


def _shares(schedule: Schedule, secure_sum: SecureSum, everybody: float) -> list[str]:
    """What a guarantee rests on where hospitals share noise; nothing where each adds all of it."""
    if not schedule.splits_noise:
        return []
    t, c = secure_sum.threshold, secure_sum.colluders
    numbers, together = {"threshold": t, "colluders": c, "honest": t - c}, against_everybody(everybody)
    if not schedule.sums_gradients:
        return [SHARES.format(**numbers), together]
    what = "Gradients and statistics" if schedule.shares_statistics else "Gradients"
    twice = TWICE_IN_A_SUM.format(unit=schedule.plan.privacy.unit)
    return [_SHARED_STEPS.format(what=what, **numbers), together, twice]


def _release(
    statistics: tuple[str, ...], events: Sequence[Event], delta: float, *, exact: int | None = None
) -> Release | None:
    """What left besides the adapter; so often as ``exact`` says where no event prices it."""
    if statistics and events:
        return Release(
            statistics=statistics,
            releases=len(events),
            noise_multiplier=events[0].noise_multiplier,
            epsilon=epsilon(events, delta).epsilon,
            epsilon_everybody=finite(epsilon_everybody(events, delta)),
            delta=delta,
        )
    if statistics and exact is not None:
        return Release(statistics=statistics, releases=exact, noise_multiplier=None, epsilon=None, delta=None)
    return None


def write_adapter(facts: Facts, folder: Path) -> str:
    """Saves the final adapter with its card under ``folder/adapter``; returns the SHA-256 over its weight files."""
    plan, outcome, place = facts.run.plan, facts.outcome, folder / "adapter"
    set_vector(outcome.model, outcome.adapter)
    words, length = card(facts, personal=bool(outcome.personal)), plan.adapter.max_tokens
    promise = (None, None) if non_private_reasons(facts) else (plan.privacy.epsilon, plan.privacy.delta)
    privacy = PrivacySection(unit=plan.privacy.unit, epsilon=promise[0], delta=promise[1])
    return save_adapter(
        outcome.model, place, base=facts.files, card=words, task=plan.task, max_tokens=length, privacy=privacy
    )


def usage(kind: HeadKind, base: str, max_tokens: int, pooling: Pooling = "mean") -> str:
    """Lines of Python that load an adapter under a head of ``kind`` with plain peft."""
    if kind not in LANGUAGE_HEADS:
        return _USE_HEAD.format(base=base, max_tokens=max_tokens, pooled=_POOLED[pooling])
    name, lines = LANGUAGE_CLASSES[kind]
    return _USE_LANGUAGE_MODEL.format(base=base, language_class=name, language_use=lines)


def card(facts: Facts, *, personal: bool) -> str:
    """What the adapter is and how to load it; ``personal`` where every hospital keeps a part of its own."""
    plan, reasons = facts.run.plan, non_private_reasons(facts)
    spent = f"epsilon {wording.epsilon(plan.privacy.epsilon)}, delta {plan.privacy.delta:g}"
    promise = f"{plan.privacy.unit.capitalize()}-level {spent}; see result.json."
    kind = facts.files.config().head_for(facts.run.task).kind
    speaks = kind in LANGUAGE_HEADS
    return _CARD.format(
        name=plan.name,
        head=" that predicts" if speaks else " and a linear head that predict",
        usage=usage(kind, facts.files.name, plan.adapter.max_tokens, facts.files.config().pooling),
        banner=_BANNER if reasons else "",
        rank=plan.adapter.rank,
        alpha=plan.adapter.alpha,
        outcome=facts.run.task.outcome,
        hospitals=len(facts.sites),
        rounds=plan.training.rounds,
        strategy=in_words(plan, facts.scenario.strategy),
        base=facts.files.name,
        base_sha=facts.files.sha256,
        shared=_SHARED if personal else "",
        privacy=" ".join(reasons) or promise,
    )
