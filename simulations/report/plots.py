"""Geometry of the report's plots: numbers in, positions out; the template draws them as inline SVG.

No plotting library: the report must be one file without scripts that a hospital may archive and print,
and a strict content security policy forbids what such libraries embed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHART_WIDTH = 340
CHART_HEIGHT = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 12.0, 12.0, 28.0


@dataclass(frozen=True)
class Tick:
    """A labelled position: SVG units in a chart, percent of the width on a scale."""

    at: float
    label: str


@dataclass(frozen=True)
class Reference:
    """A horizontal line at a named value; ``css`` selects its colour."""

    at: float
    label: str
    css: str


@dataclass(frozen=True)
class LineChart:
    """One quantity over rounds. ``lines`` are SVG point lists, one per unbroken stretch."""

    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    references: tuple[Reference, ...]
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
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose [low, high].

    Raises:
        ValueError: ``low`` is not below ``high``.
    """
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


def line_chart(
    rounds: Sequence[int],
    values: Sequence[float | None],
    *,
    references: Sequence[tuple[float, str, str]] = (),
    from_zero: bool = False,
) -> LineChart | None:
    """Lays out one quantity over rounds; None if no round has a value.

    Args:
        rounds: x values, increasing.
        values: y values; None breaks the line.
        references: (value, label, css class) of horizontal lines that the axis must also cover.
        from_zero: start the y axis at zero.
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
        references=tuple(Reference(y(value), label, css) for value, label, css in references),
    )
