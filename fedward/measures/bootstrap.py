"""Bootstrap intervals of a measure over units of privacy (Efron 1979)."""

from dataclasses import replace

import numpy as np

from fedward.measures.measure import Measure, Outcomes


def bootstrap_interval(
    measure: Measure, outcomes: Outcomes, *, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile interval (low, high) of ``measure`` on ``n`` resamples of units, each with all of its records.

    A pure function of its arguments. None if the measure is undefined on the records themselves or on more than half of
    the resamples (then the interval would describe a lucky minority).
    """
    if measure.local(outcomes) is None:
        return None
    order = np.argsort(outcomes.units, kind="stable")
    records = np.split(order, np.flatnonzero(np.diff(outcomes.units[order])) + 1)
    sizes = np.array([len(rows) for rows in records])
    single = len(records) == len(outcomes)
    generator, values = np.random.default_rng(seed), []
    for _ in range(n):
        pick = generator.integers(0, len(records), len(records))
        rows = order[pick] if single else np.concatenate([records[i] for i in pick])
        # A unit that was drawn twice is two units of the resample, or measures by unit would count it once.
        units = np.repeat(np.arange(len(pick)), 1 if single else sizes[pick])
        if (value := measure.local(replace(outcomes.chosen(rows), units=units))) is not None:
            values.append(value)
    if 2 * len(values) < n:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
