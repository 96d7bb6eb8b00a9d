"""What a run says about itself when it ends: its result document, the certificate in it, and the adapter's card.

Scores here are the simulator's omniscient view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import fedward
from fedward.client.models.adapter_files import save_adapter
from fedward.client.models.adapter_model import set_vector
from fedward.client.models.registry import ModelFiles
from fedward.measures import Outcomes, bootstrap_interval
from fedward.planning.scenario import Scenario
from fedward.privacy.accounting import epsilon
from fedward.privacy.dpsgd.crosscheck import NOT_COVERED, certify
from fedward.privacy.events import Event
from fedward.run import Run, Schedule
from fedward.simulations import wording
from fedward.simulations.federation import Comparison, EvaluationSet, Outcome
from fedward.simulations.parties import SiteData
from fedward.simulations.result import (
    AdapterFacts,
    BaseModelFacts,
    CrossCheck,
    Egress,
    HospitalResult,
    Privacy,
    Release,
    RunResult,
    ScenarioFacts,
    Scores,
    Seconds,
    SecureSum,
    headline_of,
)
from fedward.simulations.synthetic.hospital import BEST_POSSIBLE
from fedward.stages import Stage
from fedward.strategies.registry import in_words
from fedward.units import UNITS

_SHARES = (
    "Statistics carry shares of the noise: their part of epsilon holds against the coordinator as long as at least "
    "{honest} hospitals in every sum add theirs and the secure sum hides each vector."
)
_SHARED_STEPS = (
    "Gradients and statistics carry shares of the noise: epsilon holds as long as at most {colluders} of the hospitals "
    "leave theirs out or disclose them (c = {colluders}), so that at least {honest} (t - c) honest ones remain in "
    "every sum of at least {threshold} (t), and the secure sum hides each vector."
)
_TWICE_IN_A_SUM = (
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
_EXACT_EVALUATION = "Evaluation {units}: their statistics left without noise (unsafe_exact_evaluation)."
_RESULT = "The scores, intervals and {unit} counts in this result: exact, and known to the simulator only."
_COMPARISON = "The local and central models of the comparison, which exist in this simulation only."

_CARD = """# Adapter of the run {name}
{banner}
A LoRA adapter (rank {rank}, alpha {alpha:g}) and a linear head that predict {outcome}.
Trained by {hospitals} simulated hospitals over {rounds} rounds with the strategy `{strategy}`; the coordinator saw
only sums of masked deltas. Base model: `{base}` (SHA-256 `{base_sha}`).
{shared}
**Not for clinical use.** {privacy}

## Load it with peft
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
pooled = (hidden * mask).sum(1) / mask.sum(1)
risk = torch.sigmoid(pooled @ head["weight"].T + head["bias"]).squeeze(-1)
```
`fedward evaluate FOLDER --data DIR --format mimic-iii` does the same and scores it.
"""

_BANNER = """
**NON-PRIVATE: share this adapter only where the training data themselves may be shared.**
"""

_SHARED = """
**This is the shared part alone.** With this strategy every hospital keeps a part of its own, which never left it. The
scores in result.json are those of the hospitals' own models, not of this adapter.
"""


@dataclass(frozen=True)
class Facts:
    """Everything a run knows when it ends."""

    scenario: Scenario
    run: Run
    sites: Sequence[SiteData]
    files: ModelFiles
    outcome: Outcome
    comparison: Comparison
    evaluation: EvaluationSet
    seeded: bool

    def score(self, outcomes: Outcomes | None) -> float | None:
        """The headline measure of ``outcomes``."""
        return None if outcomes is None else self.run.task.headline.local(outcomes)

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
    reasons = []
    if not facts.run.plan.privacy.private:
        reasons.append("Differential privacy was switched off.")
    if facts.seeded:
        reasons.append("The noise came from a known seed (--unsafe-seeded-noise) and can be subtracted.")
    return reasons


def assemble(facts: Facts, adapter_sha256: str, privacy: Privacy, seconds: Mapping[str, float]) -> RunResult:
    """The document behind result.json, the table and the report."""
    plan, task, outcome, files = facts.run.plan, facts.run.task, facts.outcome, facts.files
    federated, alone = _federated(facts), facts.comparison.alone
    sent = outcome.bytes_up
    phases = {phase: seconds.get(phase, 0.0) for phase in ("data", "federated", "comparison")}
    parameters = sum(parameter.numel() for parameter in outcome.model.parameters())
    return RunResult(
        fedward_version=fedward.__version__,
        created=datetime.now(UTC),
        scenario=ScenarioFacts(
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
        headline=headline_of(task.name),
        scores=_scores(facts, federated, alone),
        hospitals=tuple(
            _hospital(facts, index, site, federated, alone.get(site.name), privacy.epsilon_max)
            for index, site in enumerate(facts.sites)
        ),
        privacy=privacy,
        non_private_reasons=tuple(non_private_reasons(facts)),
        secure_sum=outcome.secure_sum,
        bytes_per_round_per_hospital=sum(sent.values()),
        egress=tuple(
            Egress(message=stage.value, content=stage.content, protection=stage.protection, bytes=sent[stage])
            for stage in Stage
            if stage in sent
        ),
        curve=outcome.curve,
        base_model=BaseModelFacts(name=files.name, sha256=files.sha256),
        adapter=AdapterFacts(parameters=int(outcome.adapter.size), total=parameters),
        adapter_sha256=adapter_sha256,
        seconds=Seconds(total=sum(seconds.values()), **phases),
    )


def _federated(facts: Facts) -> Outcomes:
    """Everybody's evaluation records under the federated model or, where each hospital has its own, under that."""
    evaluation, outcome = facts.evaluation, facts.outcome
    if not outcome.personal:
        return evaluation.outcomes(outcome.model, outcome.adapter)
    records, own = evaluation.records, [outcome.personal[site.name] for site in facts.sites]
    scores = np.concatenate([found.scores for found in own])[records.order]
    losses = np.concatenate([found.losses for found in own])[records.order]
    return Outcomes(records.units, records.targets, scores, losses, evaluation.site)


def _scores(facts: Facts, federated: Outcomes, alone: Mapping[str, Outcomes]) -> Scores:
    pooled, names = facts.comparison.central, [site.name for site in facts.sites]
    own = [facts.at(index, alone[name]) for index, name in enumerate(names) if name in alone]
    return Scores(
        federated=facts.score(federated),
        federated_interval=facts.interval(federated),
        local_mean=_mean([facts.score(found) for found in alone.values()]),
        local_own_mean=_mean([facts.score(found) for found in own]),
        central=facts.score(pooled),
        central_interval=facts.interval(pooled),
        best_possible=_best_possible(facts),
        others={measure.name: measure.local(federated) for measure in facts.run.task.measures[1:]},
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _best_possible(facts: Facts) -> float | None:
    """The score of the true risk on the same evaluation patients, where it is known."""
    known, best = [site for site in facts.sites if site.eta], BEST_POSSIBLE.get(facts.run.task.headline.name)
    if best is None or len(known) < len(facts.sites):
        return None
    return best([np.array([(site.eta or {})[e.patient_id] for e in site.evaluation]) for site in known])


def _hospital(
    facts: Facts, index: int, site: SiteData, federated: Outcomes, alone: Outcomes | None, spent: float | None
) -> HospitalResult:
    here, apart = facts.at(index, federated), None if alone is None else facts.at(index, alone)
    return HospitalResult(
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


def certificate(schedule: Schedule, *, private: bool, secure_sum: SecureSum) -> Privacy:
    """Prices everything a run released about a unit: both populations, cross-checked, and what is not covered.

    ``schedule`` is of the plan with its noise; if that is not secret (``private``), the numbers are nominal.
    ``secure_sum`` has t and c, from which follows into how many shares noise is split.

    Raises FW-DP-020 (the cross-check fails, so no certificate is issued).
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
    training, evaluation = schedule.all_training_events, schedule.all_evaluation_events
    certified = certify(training, delta, unit=unit.name, clip=plan.clip)
    worst, check = certified.spent.epsilon, certified.cross_check
    if evaluation:
        # Evaluation units are others than training units, so the larger of the two counts.
        worst = max(worst, certify(evaluation, delta).spent.epsilon)
    mechanism = _SHARED_MECHANISM if schedule.sums_gradients else certified.mechanism
    releases = [event for event in training if event.kind == "release"]
    exact = [] if schedule.noises_evaluation else [_EXACT_EVALUATION.format(units=unit.plural)]
    return Privacy(
        private=private,
        epsilon_max=worst,
        delta=delta,
        placement=plan.placement,
        mechanism=mechanism + _CLIPPING[plan.clipping].format(units=unit.plural),
        sampler=certified.sampler,
        noise_multiplier=plan.noise_multiplier,
        clip=plan.clip,
        accountant=certified.spent.accountant,
        cross_check=CrossCheck(
            accountant=check.accountant, epsilon=check.epsilon, rdp_epsilon=certified.spent.rdp_epsilon, agrees=True
        ),
        release=_release(("mean clipped loss", f"number of {unit.plural}"), releases, delta) if releases else None,
        evaluation=_evaluation(evaluation, delta, schedule),
        assumptions=(*certified.assumptions, *_shares(schedule, secure_sum)),
        not_covered=(*NOT_COVERED, *exact, _RESULT.format(unit=unit.name), _COMPARISON),
        **common,
    )


def _shares(schedule: Schedule, secure_sum: SecureSum) -> list[str]:
    t, c = secure_sum.threshold, secure_sum.colluders
    numbers = {"threshold": t, "colluders": c, "honest": t - c}
    if schedule.sums_gradients:
        return [_SHARED_STEPS.format(**numbers), _TWICE_IN_A_SUM.format(unit=schedule.plan.privacy.unit)]
    return [_SHARES.format(**numbers)]


def _release(statistics: tuple[str, ...], events: Sequence[Event], delta: float) -> Release:
    return Release(
        statistics=statistics,
        releases=len(events),
        noise_multiplier=events[0].noise_multiplier,
        epsilon=epsilon(events, delta).epsilon,
        delta=delta,
    )


def _evaluation(events: Sequence[Event], delta: float, schedule: Schedule) -> Release | None:
    statistics = tuple(f"sums for {measure.title}" for measure in schedule.task.released)
    if not statistics:
        return None
    if events:
        return _release(statistics, events, delta)
    left = schedule.evaluation_releases
    return Release(statistics=statistics, releases=left, noise_multiplier=None, epsilon=None, delta=None)


def write_adapter(facts: Facts, folder: Path) -> str:
    """Saves the final adapter with its card under ``folder/adapter``; returns the SHA-256 over its weight files."""
    plan, outcome, place = facts.run.plan, facts.outcome, folder / "adapter"
    set_vector(outcome.model, outcome.adapter)
    words, length = card(facts, personal=bool(outcome.personal)), plan.adapter.max_tokens
    return save_adapter(outcome.model, place, base=facts.files, card=words, task=plan.task, max_tokens=length)


def card(facts: Facts, *, personal: bool) -> str:
    """What the adapter is and how to load it; ``personal`` where every hospital keeps a part of its own."""
    plan, reasons = facts.run.plan, non_private_reasons(facts)
    spent = f"epsilon {wording.epsilon(plan.privacy.epsilon)}, delta {plan.privacy.delta:g}"
    promise = f"{plan.privacy.unit.capitalize()}-level {spent}; see result.json."
    return _CARD.format(
        name=plan.name,
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
        max_tokens=plan.adapter.max_tokens,
    )
