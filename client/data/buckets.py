"""Measurements as words: a public threshold table instead of statistics pooled from patients."""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from fedward.errors import DataError

VOCABULARIES = ("chart", "loinc", "omop")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the threshold table.

    Attributes:
        name: the word used in the text.
        unit: unit of ``edges``.
        edges: increasing lower bounds of ``words[1:]``.
        words: what each interval is called.
        bounds: plausible values (inclusive); others are entry errors.
        mimic: item ids of MIMIC-III LABEVENTS; none if the measurement is not a laboratory one.
        eicu: column of eICU APACHEAPSVAR, empty if it has none.
        position: order in the text.
        codes: codes in other vocabularies, by ``chart`` (MIMIC-IV CHARTEVENTS), ``loinc`` and ``omop``.
        other_units: factor and offset to ``unit``, by unit in lower case.
    """

    name: str
    unit: str
    edges: tuple[float, ...]
    words: tuple[str, ...]
    bounds: tuple[float, float]
    mimic: tuple[int, ...]
    eicu: str
    position: int
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    other_units: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def word(self, value: float) -> str | None:
        """Returns the word for a value, ``None`` for an implausible one."""
        if not self.bounds[0] <= value <= self.bounds[1]:
            return None
        return self.words[bisect_right(self.edges, value)]

    def severity(self, value: float) -> int:
        """Returns how many intervals the value lies from ``normal``: 0 is normal."""
        return abs(bisect_right(self.edges, value) - self.words.index("normal"))

    def interval(self, word: str) -> tuple[float, float]:
        """Returns the half-open interval of values called ``word``, within the plausible ones."""
        index = self.words.index(word)
        low = self.edges[index - 1] if index else self.bounds[0]
        high = self.edges[index] if index < len(self.edges) else self.bounds[1]
        return low, high


@cache
def measurements() -> Mapping[str, Measurement]:
    """Returns the committed threshold table by name, in the order of the text."""
    raw = tomllib.loads(files("fedward.client.data").joinpath("thresholds.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: parse_measurement(name, row, i) for i, (name, row) in enumerate(raw.items())})


def parse_measurement(name: str, row: Mapping[str, Any], position: int) -> Measurement:
    """Builds one measurement from its TOML table.

    Raises:
        DataError: FW-DATA-010, edges not increasing, number of words wrong, or no word ``normal``.
    """
    edges, words = tuple(map(float, row["edges"])), tuple(map(str, row["words"]))
    increasing = all(low < high for low, high in pairwise(edges))
    if not increasing or len(words) != len(edges) + 1 or "normal" not in words:
        raise DataError(f"The thresholds of '{name}' are not usable.", code="FW-DATA-010")
    low, high = row["range"]
    mimic = tuple(int(item) for item in row.get("mimic", ()))
    return Measurement(
        name, str(row["unit"]), edges, words, (float(low), float(high)), mimic, str(row.get("eicu", "")), position,
        codes={kind: tuple(map(str, row.get(kind, ()))) for kind in VOCABULARIES},
        other_units={unit: (float(pair[0]), float(pair[1])) for unit, pair in row.get("other_units", {}).items()},
    )  # fmt: skip


@cache
def names_by_code(vocabulary: str) -> Mapping[str, str]:
    """Names of measurements by their codes in ``vocabulary``: ``mimic`` or one of :data:`VOCABULARIES`."""
    codes = {
        name: map(str, row.mimic) if vocabulary == "mimic" else row.codes[vocabulary]
        for name, row in measurements().items()
    }
    return MappingProxyType({code: name for name, each in codes.items() for code in each})
