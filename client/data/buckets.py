"""Measurements as words: a public threshold table instead of statistics pooled from patients."""

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

VOCABULARIES = ("chart", "mimic_iv", "loinc", "omop")
"""Other codes of a measurement: of MIMIC-IV's CHARTEVENTS and LABEVENTS (beside MIMIC-III's), of LOINC, of OMOP."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the threshold table."""

    name: str  # the word used in the text
    unit: str  # of the edges
    edges: tuple[float, ...]  # increasing lower bounds of words[1:]
    words: tuple[str, ...]  # what each interval is called
    bounds: tuple[float, float]  # plausible values (inclusive); others are entry errors
    mimic: tuple[int, ...]  # item ids of MIMIC-III LABEVENTS; none if the measurement is not a laboratory one
    eicu: str  # column of eICU APACHEAPSVAR, empty if it has none
    position: int  # order in the text
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by vocabulary, see VOCABULARIES
    other_units: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # factor, offset; in lower case

    def word(self, value: float) -> str | None:
        """The word for a value, ``None`` for an implausible one."""
        if not self.bounds[0] <= value <= self.bounds[1]:
            return None
        return self.words[bisect_right(self.edges, value)]

    def severity(self, value: float) -> int:
        """How many intervals the value lies from ``normal``: 0 is normal."""
        return abs(bisect_right(self.edges, value) - self.words.index("normal"))

    def interval(self, word: str) -> tuple[float, float]:
        """The half-open interval of values called ``word``, within the plausible ones."""
        index = self.words.index(word)
        low = self.edges[index - 1] if index else self.bounds[0]
        high = self.edges[index] if index < len(self.edges) else self.bounds[1]
        return low, high


@cache
def measurements() -> Mapping[str, Measurement]:
    """The committed threshold table by name, in the order of the text."""
    raw = tomllib.loads(files("fedward.client.data").joinpath("thresholds.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: parse_measurement(name, row, i) for i, (name, row) in enumerate(raw.items())})


def parse_measurement(name: str, row: Mapping[str, Any], position: int) -> Measurement:
    """One measurement from its TOML table; raises FW-DATA-010 (edges not increasing, or words that do not fit)."""
    edges, words = tuple(map(float, row["edges"])), tuple(map(str, row["words"]))
    increasing = all(low < high for low, high in pairwise(edges))
    if not increasing or len(words) != len(edges) + 1 or "normal" not in words:
        raise DataError(f"The thresholds of '{name}' are not usable.", code="FW-DATA-010")
    low, high = map(float, row["range"])
    mimic, eicu = tuple(map(int, row.get("mimic", ()))), str(row.get("eicu", ""))
    codes = {kind: tuple(map(str, row.get(kind, ()))) for kind in VOCABULARIES}
    units = {unit: (float(factor), float(offset)) for unit, (factor, offset) in row.get("other_units", {}).items()}
    return Measurement(name, str(row["unit"]), edges, words, (low, high), mimic, eicu, position, codes, units)


@cache
def names_by_code(vocabulary: str) -> Mapping[str, str]:
    """Names of measurements by their codes in ``vocabulary``: ``mimic`` or one of :data:`VOCABULARIES`."""
    found: dict[str, str] = {}
    for name, row in measurements().items():
        items = map(str, row.mimic if vocabulary in ("mimic", "mimic_iv") else ())
        found |= dict.fromkeys((*items, *row.codes.get(vocabulary, ())), name)
    return MappingProxyType(found)
