"""Run: a plan resolved once, so that nobody looks up a strategy or a task by its name in the middle of a round.

A :class:`Schedule` is what follows from the plan alone: which protocol round is which phase of which training round,
who takes part, which statistics leave, and what each round costs. A :class:`Run` binds it to the layout of the model's
adapter, which adds the vector of each round and the update of the adapter. Coordinator, hospitals, planning and the
ledger ask these two; all that they answer is a function of public numbers.

>>> from fedward.plan import Plan
>>> schedule = Schedule.of(Plan(name="example", base_model_sha256="0" * 64))
>>> schedule.final_round, schedule.step(1).opens, schedule.task.headline.title
(11, True, 'AUROC')
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np

from fedward.adapter import AdapterLayout, Vector
from fedward.errors import ConfigError, RunFailedError
from fedward.measures import Measure, Statistic
from fedward.measures.measure import Floats
from fedward.plan import UNITS_COUNTED, Plan, StatisticsPlan
from fedward.privacy.events import SHARES_UNKNOWN, Event, PrivacyParameterError
from fedward.privacy.noise import GradientSpec, ReleaseSpec, gradient_distance, total_sigma
from fedward.privacy.secagg.encoding import Segment, VectorLayout
from fedward.privacy.secagg.roster import default_colluders, minimum_threshold
from fedward.strategies.combinations import check_ranks, check_sites, check_strategy
from fedward.strategies.optimizers import Best, Memory, gradient_step, judge, pack, unpack
from fedward.strategies.strategy import Part, Step, Strategy, Sums
from fedward.tasks import Task, task_named

GRADIENT, TRAINING, EVALUATION, SURVEY = "gradient", "training", "evaluation", "statistics"
"""Segments beside a strategy's own: the gradient sum of ``secure-grad``, statistics of both populations, and those of a
plan that trains nothing."""

LOSS, UNITS = "loss", "units"
"""Statistics of training records: the sum of clipped losses and the number of units."""

NOTHING_TRAINED = AdapterLayout.of([("head.nothing", (1,))])
"""Layout of the state of a plan that trains nothing: one zero, which no round moves. It needs no base model."""

SITE_CAP_FACTOR = 4
"""A site counts at most this many times the plan's public number of units; beyond it, counts saturate."""


@dataclass(frozen=True)
class Schedule:
    """Rounds, statistics and costs of a plan, with its task and the kind of its strategy."""

    plan: Plan
    task: Task
    kind: type[Strategy] = field(repr=False)

    @classmethod
    def of(cls, plan: Plan) -> Schedule:
        """Resolves the names in ``plan``. Raises ConfigError (an unknown one, or settings that exclude each other)."""
        schedule = Schedule(plan, task_named(plan.task), check_strategy(plan))
        if plan.gate.enabled:
            _ = schedule.judge  # raises where there is none
        if schedule.surveys and not schedule.noises_evaluation:
            words = "A plan of statistics would let exact counts leave the hospitals."
            raise ConfigError(words, code="FW-DP-021")
        return schedule

    # --- rounds -----------------------------------------------------------------------------------

    @cached_property
    def sums(self) -> int:
        """Protocol rounds in one training round."""
        return self.kind.sums(self.plan)

    @property
    def surveys(self) -> bool:
        """Whether the plan counts units instead of training: its scoring round, the only one, sums their statistics."""
        return self.plan.statistics is not None

    @property
    def counts(self) -> StatisticsPlan:
        """What a plan counts that trains nothing. Raises FW-CONFIG-001 for one that trains."""
        if self.plan.statistics is None:
            raise ConfigError("The plan has no statistics.", code="FW-CONFIG-001")
        return self.plan.statistics

    @property
    def rounds(self) -> int:
        """Training rounds, R."""
        return 0 if self.surveys else self.plan.training.rounds

    @property
    def final_round(self) -> int:
        """Number of the protocol round that only scores, after the last training round."""
        return self.rounds * self.sums + 1

    def step(self, number: int) -> Step:
        """Training round and phase of protocol round ``number``, 1 to :attr:`final_round`."""
        rounds = self.rounds
        before, phase = divmod(number - 1, self.sums)
        if before >= rounds:
            return Step(number, rounds + 1, 1, 1, rounds)
        return Step(number, before + 1, phase + 1, self.sums, rounds)

    def opening(self, training_round: int) -> Step:
        """The first phase of ``training_round``; that of R + 1 is the scoring round."""
        return self.step((training_round - 1) * self.sums + 1)

    @property
    def openings(self) -> list[int]:
        """The protocol round that begins each training round, and the scoring round.

        All that costs anything happens in them, or in its place in one later phase of the same training round.
        """
        return [self.opening(number).number for number in range(1, self.rounds + 2)]

    def trains(self, step: Step) -> bool:
        """Whether hospitals train in ``step``; it is the only time that their ledgers are charged for training."""
        return not step.scores_only and (step.opens or self.kind.declaration.trains_in_every_phase)

    def follows_up(self, step: Step) -> bool:
        """Whether ``step`` sums another function of what hospitals trained for the sum before.

        It must be over exactly the same hospitals: over one less, the two would show what that one alone has trained.
        """
        return not (step.scores_only or self.trains(step))

    def cohort(self, number: int, sites: Collection[str]) -> frozenset[str]:
        """Hospitals of the roster ``sites`` that protocol round ``number`` may ask."""
        return self.kind.cohort(self.plan, self.step(number), sites)

    @property
    def private_steps(self) -> int:
        """Noisy steps of one training round that a training unit's ledger is charged for, personal ones included."""
        return self.plan.training.local_steps + self.kind.personal_steps(self.plan)

    @property
    def sums_gradients(self) -> bool:
        """Whether a round sums gradients, one step for all hospitals, rather than deltas of local training."""
        return self.plan.privacy.placement == "secure-grad"

    # --- statistics that leave --------------------------------------------------------------------

    @cached_property
    def training_release(self) -> ReleaseSpec:
        """Statistics of training records."""
        return ReleaseSpec((Statistic(LOSS, 1, bound=self.task.loss_bound), Statistic(UNITS, 1)))

    @cached_property
    def evaluation_release(self) -> ReleaseSpec | None:
        """Statistics of evaluation records: every sum that a measure of the task is read from; None without any."""
        return ReleaseSpec(self.task.statistics) if self.task.statistics else None

    @cached_property
    def survey_release(self) -> ReleaseSpec:
        """Statistics of a plan that trains nothing, of all units: how many there are, and in which cells."""
        counts = self.counts
        bounds = {name: math.sqrt(len(counts.variables[name])) for name in counts.several}
        cells = (Statistic(name, len(c), bound=bounds.get(name, 1.0)) for name, c in counts.variables.items())
        return ReleaseSpec((Statistic(UNITS_COUNTED, 1), *cells))

    @property
    def training_releases(self) -> int:
        """How many rounds release statistics of training records."""
        return self.rounds // self.plan.privacy.release_every

    @property
    def evaluation_releases(self) -> int:
        """How often evaluation statistics are released: before the first round, every k-th, and at the end."""
        if self.evaluation_release is None or self.surveys:
            return 0
        return -(-self.rounds // self.plan.privacy.evaluate_every) + 1

    def releases_training(self, number: int) -> bool:
        """Whether protocol round ``number`` carries statistics of training records."""
        step = self.step(number)
        return step.opens and not step.scores_only and step.round % self.plan.privacy.release_every == 0

    def releases_evaluation(self, number: int) -> bool:
        """Whether it carries statistics of evaluation records; the scoring round at the end always does."""
        step = self.step(number)
        due = step.scores_only or (step.opens and (step.round - 1) % self.plan.privacy.evaluate_every == 0)
        return due and self.evaluation_release is not None and not self.surveys

    @property
    def shares_statistics(self) -> bool:
        """Whether hospitals share the noise of statistics: the plan's word, or what the placement does to gradients."""
        noise = self.plan.privacy.statistics_noise
        return self.sums_gradients if noise is None else noise == "shared"

    def statistics_shares(self, honest: int) -> int:
        """Into how many shares the noise of statistics is split; ``honest`` is t - c of the sum. 1: each adds all."""
        return honest if self.shares_statistics else 1

    @property
    def noises_evaluation(self) -> bool:
        """Whether evaluation statistics are noised."""
        return self.plan.privacy.private and not self.plan.privacy.unsafe_exact_evaluation

    def saturation(self, release: ReleaseSpec) -> int:
        """Largest grid integer of one hospital's exact statistics; larger ones are cut."""
        return SITE_CAP_FACTOR * self.plan.privacy.units_per_site * release.resolution

    def gradient_spec(self, *, honest: int) -> GradientSpec:
        """Grid, sensitivity and noise share of a round's gradient sum, of which t - c ``honest`` shares are certain.

        Raises PrivacyParameterError (no share is certain, or the plan lacks its noise or its number of parameters).
        """
        privacy = self.plan.privacy
        noise = privacy.noise_multiplier if privacy.private else 0.0
        if privacy.private and not noise > 0:
            raise PrivacyParameterError("A private plan has no noise for its gradient sums.")
        batch = privacy.expected_batch
        return GradientSpec(privacy.parameters, privacy.clip, batch, noise_multiplier=noise, honest=honest)

    # --- what a round costs -----------------------------------------------------------------------

    def training_events(self, number: int, *, honest: int = SHARES_UNKNOWN) -> list[Event]:
        """What protocol round ``number`` costs a training unit; nothing in a plan without differential privacy.

        ``honest`` is t - c: where noise is split, so many shares make up what is priced. Without it, the events cost
        the same against the coordinator, and nothing can be said about everybody together. A later phase sends
        functions of what was trained in the first one, which is noised already, and costs nothing.
        """
        privacy = self.plan.privacy
        if self.surveys:
            return [self._released(self.survey_release, self.counts.noise_multiplier, honest)]
        if not privacy.private or not self.trains(self.step(number)):
            return []
        noise, rate = privacy.noise_multiplier, privacy.sampling_rate
        events = [Event("dpsgd", noise, rate, self.private_steps)]
        if self.sums_gradients:
            distance = gradient_distance(privacy.parameters)
            events = [Event("dpsgd", noise, rate, self.private_steps, sampler_distance=distance, shares=honest)]
        if self.releases_training(number):
            events.append(self._released(self.training_release, privacy.release_noise_multiplier, honest))
        return events

    def evaluation_events(self, number: int, *, honest: int = SHARES_UNKNOWN) -> list[Event]:
        """What it costs an evaluation unit; nothing where evaluation is exact or the round has none."""
        if self.surveys:
            return [self._released(self.survey_release, self.counts.noise_multiplier, honest)]
        release = self.evaluation_release
        if release is None or not self.noises_evaluation or not self.releases_evaluation(number):
            return []
        return [self._released(release, self.plan.privacy.evaluation_noise_multiplier, honest)]

    def _released(self, release: ReleaseSpec, noise: float, honest: int) -> Event:
        shares = self.statistics_shares(honest)
        return Event("release", noise, 1.0, 1, sampler_distance=release.sampler_distance, shares=shares)

    @property
    def splits_noise(self) -> bool:
        """Whether hospitals share noise, so that the coordinator and everybody together meet different amounts."""
        privacy, statistics = self.plan.privacy, self.surveys or self.training_releases or self.noises_evaluation
        return privacy.private and (self.sums_gradients or bool(statistics and self.shares_statistics))

    def all_training_events(self, *, honest: int = SHARES_UNKNOWN) -> list[Event]:
        """What the whole run costs a training unit, which is in one phase of each training round."""
        return [event for number in self.openings for event in self.training_events(number, honest=honest)]

    def all_evaluation_events(self, *, honest: int = SHARES_UNKNOWN) -> list[Event]:
        """What the whole run costs an evaluation unit."""
        return [event for number in self.openings for event in self.evaluation_events(number, honest=honest)]

    # --- what a sum says about quality ------------------------------------------------------------

    @cached_property
    def judge(self) -> Measure:
        """The measure that the holdout gate decides by.

        Raises FW-CONFIG-041 (it never leaves, all cannot come to the same bits of it, or any fall would be tolerated).
        """
        name = self.plan.gate.measure
        measure = self.task.headline if name is None else self.task.measure(name)
        if measure is None or not measure.statistics or type(measure).exact is Measure.exact:
            wanted = name or self.task.headline.name
            raise ConfigError(f"The holdout gate cannot judge by {wanted!r}.", code="FW-CONFIG-041")
        if measure.highest is not None and 2 * self.plan.gate.tolerance >= measure.highest - measure.lowest:
            tolerant = f"The holdout gate would tolerate any fall of the {measure.title}."
            fix = "Lower gate.tolerance below half of the measure's range."
            raise ConfigError(tolerant, code="FW-CONFIG-041", fix=fix)
        return measure

    def quality(self, sums: Sums) -> dict[str, float | None]:
        """Each released measure of the task as the evaluation statistics in ``sums`` show it; empty without them."""
        decoded = _decoded(self.evaluation_release, sums, EVALUATION)
        return {measure.name: measure.of_sum(decoded) for measure in self.task.released} if decoded else {}

    def counted(self, sums: Sums) -> Mapping[str, Floats]:
        """The noised statistics of a plan that trains nothing, by variable; empty where the sum has none."""
        return _decoded(self.survey_release if self.surveys else None, sums, SURVEY)

    def training_loss(self, sums: Sums) -> float | None:
        """Mean clipped loss of training units, where the sum has it."""
        decoded = _decoded(self.training_release, sums, TRAINING)
        if not decoded:
            return None
        loss, units = float(decoded[LOSS][0]), float(decoded[UNITS][0])
        return min(self.task.loss_bound, max(0.0, loss / units)) if units > 0 else None

    def _score(self, sums: Sums) -> Fraction | None:
        """The judge's exact verdict on a sum that has evaluation statistics."""
        decoded = _decoded(self.evaluation_release, sums, EVALUATION)
        exact = {name: tuple(map(Fraction, cells.tolist())) for name, cells in decoded.items()}
        return self.judge.exact(exact) if exact else None


@dataclass(frozen=True)
class Run(Schedule):
    """A schedule bound to the adapter it trains."""

    layout: AdapterLayout = field(kw_only=True)  # of the global state, at the plan's full rank
    strategy: Strategy = field(kw_only=True, repr=False)  # bound to plan and layout

    @classmethod
    def resolve(cls, plan: Plan, layout: AdapterLayout) -> Self:
        """The run of ``plan`` on a state of ``layout``; raises like :meth:`Schedule.of`."""
        return cls.bind(Schedule.of(plan), layout)

    @classmethod
    def of_statistics(cls, plan: Plan) -> Self:
        """The run of a plan that trains nothing; raises like :meth:`Schedule.of`."""
        return cls.resolve(plan, NOTHING_TRAINED)

    @classmethod
    def bind(cls, schedule: Schedule, layout: AdapterLayout) -> Self:
        """A resolved plan with the state of ``layout``."""
        plan, kind = schedule.plan, schedule.kind
        return cls(plan, schedule.task, kind, layout=layout, strategy=kind(plan, layout))

    def at_rank(self, layout: AdapterLayout) -> Strategy:
        """The strategy for a hospital whose state has ``layout``: a part of the whole one where its rank is lower."""
        return self.strategy if layout == self.layout else self.kind(self.plan, layout)

    def vector_layout(self, number: int, *, n0: int, honest: int) -> VectorLayout:
        """The vector of protocol round ``number`` with ``n0`` hospitals in its first cohort; ``honest`` is t - c.

        Coordinator and hospitals compute it independently; a hospital refuses a manifest whose segments differ, so a
        coordinator cannot ask for a number that the plan does not name.
        """
        segments, step, privacy = [], self.step(number), self.plan.privacy
        if not step.scores_only and self.sums_gradients:
            spec = self.gradient_spec(honest=honest)
            segments.append(Segment(GRADIENT, spec.parameters, 32, spec.step, spec.bound, spec.sum_deviation(n0)))
        elif not step.scores_only:
            segments += [self._part(part) for part in self.strategy.sends(step)]
        if self.releases_training(number):
            multiplier = privacy.release_noise_multiplier if privacy.private else 0.0
            segments.append(self._statistics(TRAINING, self.training_release, multiplier, n0, honest))
        if self.evaluation_release is not None and self.releases_evaluation(number):
            multiplier = privacy.evaluation_noise_multiplier if self.noises_evaluation else 0.0
            segments.append(self._statistics(EVALUATION, self.evaluation_release, multiplier, n0, honest))
        if self.surveys:
            multiplier = self.counts.noise_multiplier
            segments.append(self._statistics(SURVEY, self.survey_release, multiplier, n0, honest))
        return VectorLayout(tuple(segments))

    def _part(self, part: Part) -> Segment:
        sums = self.plan.secure_sum
        step, bound = part.step or sums.delta_step, part.bound or sums.delta_bound
        return Segment(part.name, part.layout.size, sums.delta_ring_bits, step, bound)

    def _statistics(self, name: str, release: ReleaseSpec, multiplier: float, n0: int, honest: int) -> Segment:
        step, noise = 1.0 / release.resolution, 0.0
        if multiplier:
            shares = math.sqrt(n0 / self.statistics_shares(honest))  # of which one is what is priced
            noise = total_sigma(multiplier, release.l2_sensitivity_grid) * shares * step
        return Segment(name, release.size, 32, step, self.saturation(release) * step, noise)

    # --- the update -------------------------------------------------------------------------------

    def advance(
        self, number: int, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]
    ) -> tuple[Vector, Memory]:
        """State and memory after protocol round ``number``; coordinator and hospitals call this same function.

        ``memory`` is that of strategy or server optimizer, empty before the first round; ``sums`` has every segment of
        the decoded sum; ``survivors`` are sorted. Raises FW-STRATEGY-018 (a number would not be finite).
        """
        gated = self.plan.gate.enabled
        best, inner = self._judged(state, memory, sums) if gated else (None, memory)
        kept = unpack(memory, state.size)[0] if gated and best is None else None
        if kept is not None:
            state, memory = kept.state, pack(kept, kept.memory)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # of which the result tells
                state, inner = self._moved(self.step(number), state, inner, sums, survivors)
            memory = pack(best, inner) if gated else inner
        if not (np.isfinite(state).all() and np.isfinite(memory).all()):
            raise RunFailedError("The update of a round leads to numbers that are not finite.", code="FW-STRATEGY-018")
        return state, memory

    def takes_back(self, state: Vector, memory: Memory, sums: Sums) -> bool:
        """Whether the holdout gate drops ``state`` and the sum trained from it; arguments as for :meth:`advance`."""
        if not self.plan.gate.enabled or unpack(memory, state.size)[0] is None:
            return False
        return self._judged(state, memory, sums)[0] is None

    def _judged(self, state: Vector, memory: Memory, sums: Sums) -> tuple[Best | None, Memory]:
        """The best state after ``state`` was scored, if it was; None if it fails, or if none was ever scored."""
        best, inner = unpack(memory, state.size)
        if EVALUATION in sums:
            best = judge(self._score(sums), state, inner, best, gate=self.plan.gate, measure=self.judge)
        return best, inner

    def _moved(
        self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]
    ) -> tuple[Vector, Memory]:
        if step.scores_only:
            return state, memory
        if self.sums_gradients:
            return gradient_step(self.plan, state, memory, sums[GRADIENT], len(survivors), self.layout)
        return self.strategy.advance(step, state, memory, sums, survivors)


def _decoded(release: ReleaseSpec | None, sums: Sums, segment: str) -> Mapping[str, Floats]:
    """A decoded segment in the units of its statistics; empty where the sum has none."""
    if release is None or segment not in sums:
        return {}
    return release.decode(np.rint(sums[segment] * release.resolution).astype(np.int64))


def roster_rules(schedule: Schedule, hospitals: int, *, min_cohort: int | None = None) -> tuple[int, int]:
    """c and the smallest first cohort, ``min_cohort`` or a safe one, for a roster of so many ``hospitals``.

    A sum of few hospitals tolerates a dropout only under a small c; a median's groups are such sums (FW-STRATEGY-013).
    """
    smallest = schedule.kind.smallest_sum(schedule.plan, hospitals)
    colluders = min(default_colluders(hospitals), max(1, smallest - 3))
    cohort = max(3, colluders + 2) if min_cohort is None else min_cohort
    check_sites(schedule.plan, schedule.kind, hospitals=hospitals, min_cohort=cohort)
    return colluders, cohort


def certain_shares(schedule: Schedule, number: int, sites: Collection[str], colluders: int) -> int:
    """Most noise shares, t - c, into which protocol round ``number`` may split noise if all of ``sites`` are asked.

    A smaller first cohort has fewer and larger shares.
    """
    return minimum_threshold(len(schedule.cohort(number, sites)), colluders) - colluders


def most_shares(schedule: Schedule, sites: Collection[str], colluders: int) -> int:
    """The most of :func:`certain_shares` over the rounds of a run: what everybody together may learn is priced so."""
    return max(certain_shares(schedule, number, sites, colluders) for number in range(1, schedule.final_round + 1))


def shares_among(schedule: Schedule, hospitals: int | None) -> int:
    """:func:`most_shares` for a roster of so many ``hospitals`` that does not exist yet; 0, not known, for None."""
    if hospitals is None:
        return SHARES_UNKNOWN
    colluders = roster_rules(schedule, hospitals)[0]
    return most_shares(schedule, [f"hospital-{number}" for number in range(hospitals)], colluders)


def smallest_sum(schedule: Schedule, hospitals: int, colluders: int) -> tuple[int, int]:
    """Hospitals in the smallest sum of a plan if all ``hospitals`` take part, and how many of them must stay."""
    size = schedule.kind.smallest_sum(schedule.plan, hospitals)
    return size, minimum_threshold(size, colluders)


def check_roster(schedule: Schedule, names: Collection[str], *, min_cohort: int) -> None:
    """Refuses a plan that does not fit a roster: FW-STRATEGY-013 (small sums), FW-STRATEGY-019 (ranks of others)."""
    check_ranks(schedule.plan, names)
    check_sites(schedule.plan, schedule.kind, hospitals=len(names), min_cohort=min_cohort)
