"""View of the report: a :class:`RunResult` in words and positions; the template draws it as inline SVG.

No plotting library: the report must be one file without scripts that a hospital may archive and print,
and a strict content security policy forbids what such libraries embed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fedward.measures import MEASURES
from fedward.simulations import wording
from fedward.simulations.result import Headline, Release, RunResult
from fedward.tasks import task_named
from fedward.units import UNITS, Unit

CHART_WIDTH = 340
CHART_HEIGHT = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 12.0, 12.0, 28.0
_NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")

PLACEMENTS = {
    "local": "local: every hospital adds the whole noise to every training step, so the adapter is protected against "
    "everyone else, all of them together; so are statistics, unless the assumptions say that they carry shares",
    "secure-grad": "secure-grad: every hospital adds a share of the noise to one clipped gradient sum per round, in "
    "the secure sum; the whole noise is there only once enough shares are added, see the assumptions",
    "none": "none: nobody adds noise",
}


class Tick(NamedTuple):
    """A labelled position: SVG units in a chart, percent of the width on a scale; ``css`` selects its colour."""

    at: float
    label: str
    css: str = ""


@dataclass(frozen=True)
class LineChart:
    """One quantity over rounds. ``lines`` are SVG point lists, one per unbroken stretch; ``references`` horizontals."""

    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    references: tuple[Tick, ...]
    left: float = _LEFT
    right: float = CHART_WIDTH - _RIGHT
    bottom: float = CHART_HEIGHT - _BOTTOM
    width: int = CHART_WIDTH
    height: int = CHART_HEIGHT


@dataclass(frozen=True)
class Scale:
    """A horizontal axis in percent of its width, so that rows stay readable at any page width."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def at(self, value: float) -> float:
        """Position of ``value`` in percent, 0 at ``low`` and 100 at ``high``."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose [low, high]; ValueError unless low < high."""
    if not low < high:
        raise ValueError("an axis needs a positive length")
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def scale(values: Sequence[float], *, floor: float, ceiling: float) -> Scale:
    """An axis around ``values`` that never leaves [floor, ceiling]."""
    low, high = min(values), max(values)
    pad = max(0.01, 0.08 * (high - low))
    ticks = nice_ticks(max(floor, low - pad), min(ceiling, high + pad), about=5)
    axis = Scale(ticks[0], ticks[-1], ())
    return Scale(axis.low, axis.high, tuple(Tick(axis.at(tick), f"{tick:.2f}") for tick in ticks))


def scale_of(values: Sequence[float | None], headline: Headline) -> Scale | None:
    """An axis for scores by ``headline``; None if there are none."""
    known = [value for value in values if value is not None]
    ceiling = math.inf if headline.highest is None else headline.highest
    return scale(known, floor=headline.lowest, ceiling=ceiling) if known else None


def line_chart(
    rounds: Sequence[int],
    values: Sequence[float | None],
    *,
    references: Sequence[tuple[float, str, str]] = (),
    from_zero: bool = False,
) -> LineChart | None:
    """Lays out one quantity over rounds (increasing); None if no round has a value, and a None breaks the line.

    ``references`` are (value, label, css class) of horizontal lines that the axis must also cover.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    reach = [*known, *(value for value, _, _ in references), *([0.0] if from_zero else [])]
    low, high = min(reach), max(reach)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    y_values = nice_ticks(low, high)
    x_low, x_high = rounds[0], max(rounds[-1], rounds[0] + 1)

    def x(value: float) -> float:
        return round(_LEFT + (CHART_WIDTH - _LEFT - _RIGHT) * (value - x_low) / (x_high - x_low), 1)

    def y(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(CHART_HEIGHT - _BOTTOM - (CHART_HEIGHT - _TOP - _BOTTOM) * share, 1)

    stretches: list[list[tuple[float, float]]] = [[]]
    for turn, value in zip(rounds, values, strict=True):
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append((x(turn), y(value)))
    whole = [tick for tick in nice_ticks(x_low, x_high, about=5) if tick == int(tick) and x_low <= tick <= x_high]
    digits = max(0, -math.floor(math.log10(y_values[1] - y_values[0]) + 1e-9))
    return LineChart(
        lines=tuple(" ".join(f"{a},{b}" for a, b in stretch) for stretch in stretches if len(stretch) > 1),
        dots=tuple(point for stretch in stretches for point in stretch),
        x_ticks=tuple(Tick(x(tick), f"{tick:.0f}") for tick in whole),
        y_ticks=tuple(Tick(y(tick), f"{tick:.{digits}f}") for tick in y_values),
        references=tuple(Tick(y(value), label, css) for value, label, css in references),
    )


class Row(NamedTuple):
    """One model on the comparison scale."""

    label: str
    note: str
    css: str
    value: float | None
    interval: tuple[float, float] | None = None


class Panel(NamedTuple):
    """A chart with its words; ``missing`` stands where there is none."""

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
    def unit(self) -> Unit:
        """Whose presence epsilon hides."""
        return UNITS[self._result.privacy.unit]

    @cached_property
    def writes(self) -> bool:
        """Whether the model is a language model, which brings its own head."""
        return task_named(self._result.scenario.task).head.kind == "causal"

    @cached_property
    def noised(self) -> bool:
        """Whether the statistics of the rounds carry noise."""
        evaluation = self._result.privacy.evaluation
        return evaluation is not None and evaluation.noise_multiplier is not None

    @cached_property
    def comparison(self) -> list[Row]:
        """Local, federated and central on one scale; models that were not trained are left out."""
        scores = self._result.scores
        rows = [
            Row("Untrained", "the base model", "untrained", scores.untrained),
            Row("Each hospital alone", "mean of their models", "local", scores.local_mean),
            Row("Federated", "this adapter", "federated", scores.federated, scores.federated_interval),
            Row("Pooled central", "all records in one place", "central", scores.central, scores.central_interval),
        ]
        return [row for row in rows if row.value is not None]

    @cached_property
    def comparison_scale(self) -> Scale | None:
        """The axis of :attr:`comparison`; None if nothing was measured."""
        values = [value for row in self.comparison for value in (row.value, *(row.interval or ()))]
        return scale_of([*values, self._result.scores.best_possible], self._result.headline)

    @cached_property
    def hospital_scale(self) -> Scale | None:
        """The axis of the per-hospital column."""
        rows = self._result.hospitals
        return scale_of([value for row in rows for value in (row.alone, row.federated)], self._result.headline)

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

    def digits(self, name: str) -> int:
        """Decimals of the measure ``name`` that are worth printing."""
        known = MEASURES.get(name)
        return 3 if known is None else known.digits

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
        if privacy.epsilon_max is None or privacy.accountant is None:
            lines.append(("Epsilon", "none: the run has no differential privacy"))
        else:
            nominal = "" if privacy.private else " (nominal: this run is NON-PRIVATE, see above)"
            at = f"{wording.epsilon(privacy.epsilon_max)} at delta = {wording.delta(privacy.delta)}"
            lines.append(("Epsilon", f"{at}, composed over the whole run{nominal}"))
            if privacy.epsilon_everybody is not None:
                together = "against all other hospitals and the coordinator together"
                lines.append(("Everybody", f"{wording.epsilon(privacy.epsilon_everybody)} {together}{nominal}"))
            lines.append(("Accountant", privacy.accountant))
            if check := privacy.cross_check:
                rdp = f"RDP {wording.epsilon(check.rdp_epsilon)} (a looser bound)"
                others = f"{check.accountant} {wording.epsilon(check.epsilon)}, {rdp}"
                lines.append(("Cross-check", f"{check.verdict}: {others}"))
        lines += _release("Training statistics", privacy.release)
        lines += _release("Evaluation statistics", privacy.evaluation)
        return lines


def _release(term: str, release: Release | None) -> list[tuple[str, str]]:
    if release is None:
        return []
    what = f"{', '.join(release.statistics)}; {release.releases} releases"
    if release.noise_multiplier is None:
        return [(term, f"{what}, exact and NOT covered by the epsilon above")]
    spent = "" if release.epsilon is None else f", epsilon {wording.epsilon(release.epsilon)} by themselves"
    if release.epsilon_everybody is not None and release.epsilon_everybody != release.epsilon:
        spent += f" ({wording.epsilon(release.epsilon_everybody)} against everybody together)"
    at = "" if release.delta is None else f" at delta = {wording.delta(release.delta)}"
    return [(term, f"{what}, noise multiplier {release.noise_multiplier:.4g}{spent}{at}")]
