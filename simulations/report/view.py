"""What the report shows, derived from a :class:`RunResult`: comparison rows, charts, certificate lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fedward.measures import MEASURES
from fedward.simulations import wording
from fedward.simulations.report.plots import LineChart, Scale, line_chart, scale
from fedward.simulations.result import HospitalResult, Release, RunResult
from fedward.units import UNITS, Unit

_NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")

PLACEMENTS = {
    "local": "local: every hospital adds the whole noise to every training step, so the adapter is protected against "
    "everyone else; statistics carry noise shares, see the assumptions",
    "secure-grad": "secure-grad: every hospital adds a share of the noise to one clipped gradient sum per round, in "
    "the secure sum; the whole noise is there only once enough shares are added, see the assumptions",
    "none": "none: nobody adds noise",
}


@dataclass(frozen=True)
class Row:
    """One model on the comparison scale; positions in percent of the scale."""

    label: str
    note: str
    css: str
    value: float
    interval: tuple[float, float] | None
    at: float
    span: tuple[float, float] | None


@dataclass(frozen=True)
class HospitalRow:
    """One hospital of the omniscient view with the positions of its two models."""

    hospital: HospitalResult
    gain: float | None
    alone_at: float | None
    federated_at: float | None


@dataclass(frozen=True)
class Panel:
    """A chart with its words."""

    title: str
    note: str
    css: str
    chart: LineChart | None
    missing: str


class View:
    """Lazy, read-only derivations of one result; no figure here that is not in the result."""

    def __init__(self, result: RunResult) -> None:
        self._result = result

    @cached_property
    def hospitals_in_words(self) -> str:
        """``Six`` for 6; digits beyond twelve."""
        count = self._result.scenario.hospitals
        return _NUMBERS[count] if count < len(_NUMBERS) else str(count)

    @cached_property
    def gain(self) -> float | None:
        """How much better the federated model is than the mean of hospitals alone, on the same records."""
        scores = self._result.scores
        if scores.federated is None or scores.local_mean is None:
            return None
        return self._result.headline.improvement(scores.federated, scores.local_mean)

    @cached_property
    def noisy(self) -> bool:
        """Whether hospitals add noise at all (a seeded run does, and is still not private)."""
        return bool(self._result.privacy.noise_multiplier)

    @cached_property
    def noised(self) -> bool:
        """Whether the statistics of the rounds carry noise."""
        evaluation = self._result.privacy.evaluation
        return evaluation is not None and evaluation.noise_multiplier is not None

    @cached_property
    def trained_share(self) -> float:
        """Percent of the parameters that are trained."""
        adapter = self._result.adapter
        return 100 * adapter.parameters / adapter.total if adapter.total else 0.0

    @cached_property
    def comparison_scale(self) -> Scale | None:
        """The axis of :attr:`comparison`; None if nothing was measured."""
        scores = self._result.scores
        values = [scores.federated, scores.local_mean, scores.central, scores.best_possible]
        values += [*(scores.federated_interval or ()), *(scores.central_interval or ())]
        return self._scale(values)

    def _scale(self, values: Sequence[float | None]) -> Scale | None:
        known, headline = [value for value in values if value is not None], self._result.headline
        ceiling = math.inf if headline.highest is None else headline.highest
        return scale(known, floor=headline.lowest, ceiling=ceiling) if known else None

    @cached_property
    def comparison(self) -> list[Row]:
        """Local, federated and central on one scale; models that were not trained are left out."""
        scores, axis = self._result.scores, self.comparison_scale
        if axis is None:
            return []
        models = [
            ("Each hospital alone", "mean of their models", "local", scores.local_mean, None),
            ("Federated", "this adapter", "federated", scores.federated, scores.federated_interval),
            ("Pooled central", "all records in one place", "central", scores.central, scores.central_interval),
        ]
        return [
            Row(
                label,
                note,
                css,
                value,
                spread,
                axis.at(value),
                (axis.at(spread[0]), axis.at(spread[1])) if spread else None,
            )
            for label, note, css, value, spread in models
            if value is not None
        ]

    @cached_property
    def best_at(self) -> float | None:
        """Position of the best possible score on the comparison scale."""
        best, axis = self._result.scores.best_possible, self.comparison_scale
        return None if best is None or axis is None else axis.at(best)

    @cached_property
    def hospital_scale(self) -> Scale | None:
        """The axis of the per-hospital column."""
        return self._scale([value for row in self._result.hospitals for value in (row.alone, row.federated)])

    @cached_property
    def hospitals(self) -> list[HospitalRow]:
        """The omniscient table, in the order of the result."""
        axis = self.hospital_scale

        def at(value: float | None) -> float | None:
            return None if value is None or axis is None else axis.at(value)

        return [
            HospitalRow(
                hospital,
                None
                if hospital.alone is None or hospital.federated is None
                else self._result.headline.improvement(hospital.federated, hospital.alone),
                at(hospital.alone),
                at(hospital.federated),
            )
            for hospital in self._result.hospitals
        ]

    @cached_property
    def panels(self) -> list[Panel]:
        """Every released measure, and epsilon, over rounds, as the coordinator saw them."""
        curve, privacy = self._result.curve, self._result.privacy
        rounds = [point.round for point in curve]
        noised = ", noised" if self.noised else ""
        budget = [(privacy.epsilon_max, "end of run", "limit")] if privacy.epsilon_max is not None else []
        at_delta = "no privacy budget" if privacy.delta is None else f"at delta {wording.delta(privacy.delta)}"
        headline, shown = self._result.headline.name, []
        for name in self.measures:
            chart = line_chart(rounds, [point.measures.get(name) for point in curve])
            css = "federated" if name == headline else "loss"
            shown.append(Panel(self.title(name), f"from secure sums{noised}", css, chart, "It was not released."))
        epsilon = line_chart(rounds, [point.epsilon for point in curve], references=budget, from_zero=True)
        spent = Panel("Epsilon spent", at_delta, "spent", epsilon, "Nothing to count: the run adds no noise.")
        return [*reversed(shown), spent]

    @cached_property
    def measures(self) -> list[str]:
        """Names of the measures that the coordinator saw, the headline first."""
        return list(dict.fromkeys(name for point in self._result.curve for name in point.measures))

    def title(self, name: str) -> str:
        """The measure ``name`` as a heading."""
        known = MEASURES.get(name)
        return name if known is None else known.title[0].upper() + known.title[1:]

    @cached_property
    def unit(self) -> Unit:
        """Whose presence epsilon hides."""
        return UNITS[self._result.privacy.unit]

    @cached_property
    def certificate(self) -> list[tuple[str, str]]:
        """The privacy certificate as (term, statement) lines."""
        privacy = self._result.privacy
        lines = [
            ("Unit", f"one {privacy.unit}, with all of that {privacy.unit}'s records"),
            ("Relation", privacy.relation.replace("-", " ") + f" {privacy.unit}"),
            ("Mechanism", privacy.mechanism),
            ("Placement", PLACEMENTS.get(privacy.placement, privacy.placement)),
            ("Sampler", f"{privacy.sampler}, rate q = {privacy.sampling_rate:g}"),
            ("Steps", f"T = {privacy.steps:,}; every sum is divided by the plan's constant {privacy.expected_batch:g}"),
        ]
        if privacy.clip is not None:
            lines.append(("Clip norm", f"C = {privacy.clip:g} per {privacy.unit} (L2)"))
        if privacy.noise_multiplier is not None:
            lines.append(("Noise multiplier", f"sigma = {privacy.noise_multiplier:.4g}, in units of C"))
        lines += self._spent()
        lines += _release("Training statistics", privacy.release)
        lines += _release("Evaluation statistics", privacy.evaluation)
        return lines

    def _spent(self) -> list[tuple[str, str]]:
        privacy = self._result.privacy
        if privacy.epsilon_max is None or privacy.accountant is None:
            return [("Epsilon", "none: the run has no differential privacy")]
        nominal = "" if privacy.private else " (nominal: this run is NON-PRIVATE, see above)"
        lines = [
            (
                "Epsilon",
                f"{wording.epsilon(privacy.epsilon_max)} at delta = {wording.delta(privacy.delta)}, "
                f"composed over the whole run{nominal}",
            ),
            ("Accountant", privacy.accountant),
        ]
        if check := privacy.cross_check:
            verdict = "agrees" if check.agrees else "DISAGREES"
            lines.append(
                (
                    "Cross-check",
                    f"{verdict}: {check.accountant} {wording.epsilon(check.epsilon)}, "
                    f"RDP {wording.epsilon(check.rdp_epsilon)} (a looser bound)",
                )
            )
        return lines


def _release(term: str, release: Release | None) -> list[tuple[str, str]]:
    if release is None:
        return []
    what = f"{', '.join(release.statistics)}; {release.releases} releases"
    if release.noise_multiplier is None:
        return [(term, f"{what}, exact and NOT covered by the epsilon above")]
    spent = "" if release.epsilon is None else f", epsilon {wording.epsilon(release.epsilon)} by themselves"
    at = "" if release.delta is None else f" at delta = {wording.delta(release.delta)}"
    return [(term, f"{what}, noise multiplier {release.noise_multiplier:.4g}{spent}{at}")]
