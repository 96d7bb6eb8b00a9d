"""What the report shows, derived from a :class:`RunResult`: comparison rows, charts, certificate lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fedward.simulations import wording
from fedward.simulations.report.plots import LineChart, Scale, line_chart, scale
from fedward.simulations.result import HospitalResult, Release, RunResult

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
        """Federated minus the mean of hospitals alone, on the same patients."""
        auroc = self._result.auroc
        if auroc.federated is None or auroc.local_mean is None:
            return None
        return auroc.federated - auroc.local_mean

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
        auroc = self._result.auroc
        values = [auroc.federated, auroc.local_mean, auroc.central, auroc.bayes]
        values += [*(auroc.federated_interval or ()), *(auroc.central_interval or ())]
        known = [value for value in values if value is not None]
        return scale(known, floor=0.0, ceiling=1.0) if known else None

    @cached_property
    def comparison(self) -> list[Row]:
        """Local, federated and central on one scale; models that were not trained are left out."""
        auroc, axis = self._result.auroc, self.comparison_scale
        if axis is None:
            return []
        models = [
            ("Each hospital alone", "mean of their models", "local", auroc.local_mean, None),
            ("Federated", "this adapter", "federated", auroc.federated, auroc.federated_interval),
            ("Pooled central", "all records in one place", "central", auroc.central, auroc.central_interval),
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
    def bayes_at(self) -> float | None:
        """Position of the best possible AUROC on the comparison scale."""
        bayes, axis = self._result.auroc.bayes, self.comparison_scale
        return None if bayes is None or axis is None else axis.at(bayes)

    @cached_property
    def hospital_scale(self) -> Scale | None:
        """The axis of the per-hospital column."""
        known = [
            value
            for hospital in self._result.hospitals
            for value in (hospital.auroc_alone, hospital.auroc_federated)
            if value is not None
        ]
        return scale(known, floor=0.0, ceiling=1.0) if known else None

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
                if hospital.auroc_alone is None or hospital.auroc_federated is None
                else hospital.auroc_federated - hospital.auroc_alone,
                at(hospital.auroc_alone),
                at(hospital.auroc_federated),
            )
            for hospital in self._result.hospitals
        ]

    @cached_property
    def panels(self) -> list[Panel]:
        """Loss, AUROC and epsilon over rounds, as the coordinator saw them."""
        curve, privacy = self._result.curve, self._result.privacy
        rounds = [point.round for point in curve]
        noised = ", noised" if self.noised else ""
        budget = [(privacy.epsilon_max, "end of run", "limit")] if privacy.epsilon_max is not None else []
        at_delta = "no privacy budget" if privacy.delta is None else f"at delta {wording.delta(privacy.delta)}"
        loss = line_chart(rounds, [point.loss for point in curve])
        auroc = line_chart(rounds, [point.auroc for point in curve])
        epsilon = line_chart(rounds, [point.epsilon for point in curve], references=budget, from_zero=True)
        return [
            Panel("Loss", f"cross-entropy of evaluation patients{noised}", "loss", loss, "No loss was released."),
            Panel("AUROC", f"pooled histogram{noised}", "federated", auroc, "No AUROC was released."),
            Panel("Epsilon spent", at_delta, "spent", epsilon, "Nothing to count: the run adds no noise."),
        ]

    @cached_property
    def certificate(self) -> list[tuple[str, str]]:
        """The privacy certificate as (term, statement) lines."""
        privacy = self._result.privacy
        lines = [
            ("Unit", f"one {privacy.unit}, with all of that patient's records"),
            ("Relation", privacy.relation.replace("-", " ") + f" {privacy.unit}"),
            ("Mechanism", privacy.mechanism),
            ("Placement", PLACEMENTS.get(privacy.placement, privacy.placement)),
            ("Sampler", f"{privacy.sampler}, rate q = {privacy.sampling_rate:g}"),
            ("Steps", f"T = {privacy.steps:,}; every sum is divided by the plan's constant {privacy.expected_batch:g}"),
        ]
        if privacy.clip is not None:
            lines.append(("Clip norm", f"C = {privacy.clip:g} per patient (L2)"))
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
