"""Heterogeneity report: how much the hospitals of a split differ, before anything is trained on them.

For eyes on this machine: its counts are exact.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedward.client.data import Example
from fedward.simulations.partition import Partition

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class SiteCounts:
    """One hospital of a split."""

    name: str
    train_units: int
    evaluation_units: int
    records: int
    records_per_unit: float
    most_records: int  # of one unit
    labels: Mapping[str, float]  # share of the records with each label; of numbers, their mean
    distance: float  # mean Jensen-Shannon distance of its labels to those of the other hospitals, 0 to 1
    one_outcome: bool  # whether a side has one label only, so that no run can train and score there


@dataclass(frozen=True)
class Heterogeneity:
    """All hospitals of a split."""

    sites: tuple[SiteCounts, ...]
    distances: Mapping[str, Mapping[str, float]]  # Jensen-Shannon distance of labels between each two hospitals
    mean_distance: float
    size_ratio: float  # units of the largest hospital over those of the smallest
    left_out: Mapping[str, int]  # units or records that no hospital has, by reason

    def to_value(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def heterogeneity(partition: Partition) -> Heterogeneity:
    """Counts, label rates and distances of a split."""
    every = {name: [*train, *evaluation] for name, (train, evaluation) in partition.sites.items()}
    numbers = any(isinstance(e.label, float) for examples in every.values() for e in examples)
    bins = _bins([e for examples in every.values() for e in examples], numbers=numbers)
    shares = {name: _shares(examples, bins) for name, examples in every.items()}
    pairs = {(a, b): jensen_shannon(shares[a], shares[b]) for a, b in combinations(every, 2)}
    distances = {a: {b: pairs[min(a, b), max(a, b)] for b in every if b != a} for a in every}
    sites = tuple(
        _counts(name, *partition.sites[name], fmean(distances[name].values()) if distances[name] else 0.0)
        for name in every
    )
    sizes = [site.train_units + site.evaluation_units for site in sites]
    mean = fmean(pairs.values()) if pairs else 0.0
    return Heterogeneity(sites, distances, mean, max(sizes) / min(sizes), partition.left_out)


def jensen_shannon(first: Shares, second: Shares) -> float:
    """Distance of two distributions: root of the Jensen-Shannon divergence in bits (Endres and Schindelin 2003)."""
    middle = (first + second) / 2

    def divergence(shares: Shares) -> float:
        there = shares > 0
        return float((shares[there] * np.log2(shares[there] / middle[there])).sum())

    return math.sqrt(max(0.0, (divergence(first) + divergence(second)) / 2))


def _counts(name: str, train: Sequence[Example], evaluation: Sequence[Example], distance: float) -> SiteCounts:
    records = [*train, *evaluation]
    per_unit = Counter(example.unit for example in records)
    return SiteCounts(
        name=name,
        train_units=len({example.unit for example in train}),
        evaluation_units=len({example.unit for example in evaluation}),
        records=len(records),
        records_per_unit=len(records) / len(per_unit),
        most_records=max(per_unit.values()),
        labels=_rates(records),
        distance=distance,
        one_outcome=any(len({example.label for example in side}) < 2 for side in (train, evaluation)),
    )


def _rates(records: Sequence[Example]) -> dict[str, float]:
    if any(isinstance(example.label, float) for example in records):
        return {"mean": fmean(example.label for example in records)}
    counts = Counter(word for example in records for word in _words(example))
    return {word: counts[word] / len(records) for word in sorted(counts)}


def _words(example: Example) -> tuple[str, ...]:
    label = example.label
    return tuple(map(str, label)) if isinstance(label, tuple) else (str(label),)


def _bins(examples: Sequence[Example], *, numbers: bool) -> dict[str, int] | Shares:
    """Where a label is counted: a place for each, or the tenths of all numbers."""
    if numbers:
        return np.quantile([float(example.label) for example in examples], np.arange(1, 10) / 10)
    words = sorted({word for example in examples for word in _words(example) or ("none",)})
    return {word: place for place, word in enumerate(words)}


def _shares(examples: Sequence[Example], bins: dict[str, int] | Shares) -> Shares:
    """Share of the labels in each bin; of records with several labels each counts, and ``none`` is one."""
    if isinstance(bins, dict):
        places = [bins[word] for example in examples for word in _words(example) or ("none",)]
        counts = np.bincount(places, minlength=len(bins))
    else:
        values = np.searchsorted(bins, [float(example.label) for example in examples], side="right")
        counts = np.bincount(values, minlength=len(bins) + 1)
    return np.asarray(counts / counts.sum(), np.float64)
