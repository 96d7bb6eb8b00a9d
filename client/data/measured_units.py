"""Units of measurement: their spellings, and values turned into the units of the threshold table.

One unit has many spellings (``10^9/L``, UCUM's ``10*9/L``, ``K/uL``), which are compared without case, blanks and
brackets. A value in a unit that is not known is counted by its spelling and left out: it is never taken for one in the
expected unit. A value whose table tells no unit is taken to be in the expected one.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedward.client.data.buckets import measurements
from fedward.client.data.drops import Drops

LONGEST_SHOWN = 20
"""Letters of an unknown unit that reports show; what is longer is no unit, but perhaps a remark about a person."""

MOST_SHOWN = 20
"""Spellings of unknown units of one measurement that a report tells apart."""

_REMEMBERED = 4096
"""Spellings that are remembered; a column of something else has a new one in every row."""

_MMHG = ("mmhg", "torr")
_PER_MINUTE = (
    "/min", "bpm", "brpm", "rpm", "beat/min", "beats/min", "count/min", "counts/min", "breath/min", "breaths/min",
    "insp/min", "resp/min", "次/分", "次/分钟", "次/min",
)  # fmt: skip
_SAME = {
    "mmHg, mean arterial": _MMHG,
    "mmHg": _MMHG,
    "per minute": _PER_MINUTE,
    "breaths per minute": _PER_MINUTE,
    "degrees Celsius": ("c", "cel", "°c", "?c", "degc", "gradc", "celsius", "degreecelsius", "degreescelsius"),
    "mL in 24 hours": ("ml", "ml/24h", "ml/d", "ml/day"),
    "%": ("%", "percent", "vol%", "vol-%", "vol.%", "vol.-%"),
    "mmol/L": ("mmol/l", "meq/l"),
    "mg/dL": ("mg/dl", "mg%"),
    "10^9/L": ("10^9/l", "10^3/ul", "10^6/ml", "/nl", "k/ul", "th/ul", "thou/ul", "thous/ul", "thousand/ul", "tsd/ul",
               "g/l", "gpt/l", "giga/l"),
    "g/dL": ("g/dl", "g%"),
    "ng/mL": ("ng/ml", "ug/l"),
}  # fmt: skip
"""Spellings of the units of the threshold table, as :func:`plain_unit` writes them; ``G/L`` are giga-particles."""

_LETTERS = str.maketrans(
    {
        "\N{MICRO SIGN}": "u",
        "\N{GREEK SMALL LETTER MU}": "u",
        "\N{MASCULINE ORDINAL INDICATOR}": "°",
        "\N{RING ABOVE}": "°",
        "\N{DEGREE CELSIUS}": "°c",
        "\N{DEGREE FAHRENHEIT}": "°f",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{MIDDLE DOT}": ".",
        "\N{DOT OPERATOR}": ".",
        "\N{MINUS SIGN}": "-",
        "\N{SUPERSCRIPT MINUS}": "-",
        "\N{DIVISION SLASH}": "/",
        "\N{FULLWIDTH SOLIDUS}": "/",
        "\N{FULLWIDTH PERCENT SIGN}": "%",
        **{"\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}"[i]: str(i + 1) for i in range(3)},
        **{chr(0x2070 + i): str(i) for i in (0, *range(4, 10))},
        "[": "",
        "]": "",
    }
)
_SPELLINGS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?<=.)\{[^}]*\}|\{[^}]*\}(?=.)", ""),  # notes of UCUM
        (r"^\((.*)\)$", r"\1"),
        (r"per(?!cent)", "/"),
        (r"^1/", "/"),
        (r"min(?:ute)?s?\b", "min"),
        (r"milli(?=mol|g|l|eq)", "m"),
        (r"micro(?=mol|g|l)", "u"),
        (r"deci(?=l)", "d"),
        (r"moles?", "mol"),
        (r"grams?", "g"),
        (r"litre|liter", "l"),
        (r"mc(?=g|mol)", "u"),
        (r"mcl|cu\.?mm|cmm|mm[\^*]?3", "ul"),
        (r"^g[rm](?=/)", "g"),
        (r"/100ml$", "/dl"),
        (r"[.*]?(min|dl|ml|ul|nl|l)\^?-1$", r"/\1"),
        (r"cells?|#", ""),
        (r"^[x*]?(?:10(?:\^|\*{1,2}|e|exp)?|1?e)\(?\+?0?(\d{1,2})\)?\.?(?=/)", r"10^\1"),
        (r"^k(?=/)", "10^3"),
    )
)


@lru_cache(_REMEMBERED)
def plain_unit(unit: str) -> str:
    """A unit in one spelling: in small letters, without blanks and brackets, powers as ``10^9``, ``u`` for micro."""
    text = "".join(unit.translate(_LETTERS).split()).lower()
    for pattern, new in _SPELLINGS:
        text = pattern.sub(new, text)
    return text


@cache
def own_units(name: str) -> frozenset[str]:
    """Spellings of the unit that the threshold table has for a measurement; a ratio or a score has any."""
    return frozenset(map(plain_unit, _SAME.get(measurements()[name].unit, ())))


@cache
def other_units(name: str) -> Mapping[str, tuple[float, float]]:
    """Factor and offset of the other units of a measurement, by :func:`plain_unit`."""
    return {plain_unit(unit): terms for unit, terms in measurements()[name].other_units.items()}


def known_unit(name: str, *spellings: str) -> str:
    """The first of ``spellings`` that is a unit of a measurement; where none is, the first that says anything."""
    said = [each for each in spellings if each.strip()]
    known = (each for each in said if plain_unit(each) in own_units(name) or plain_unit(each) in other_units(name))
    return next(known, said[0] if said else "")


@lru_cache(_REMEMBERED)
def _terms(name: str, unit: str) -> tuple[float, float]:
    """Factor and offset to the unit of the threshold table; no numbers where ``unit`` is not known."""
    plain = plain_unit(unit)
    if name not in measurements() or not plain or not own_units(name) or plain in own_units(name):
        return 1.0, 0.0
    return other_units(name).get(plain, (np.nan, np.nan))


def in_own_units(
    names: pa.Array,
    values: pa.Array,
    units: pa.Array,
    file: str,
    drops: Drops,
    rows: Sequence[int] | NDArray[np.int64] = (),
    *,
    declared: Mapping[str, str] | None = None,
) -> pa.Array:
    """Values in the units of the threshold table; null where the unit is not known.

    Args:
        names: of measurements, ``[n]``.
        values: numbers, ``[n]``.
        units: as the table writes them, ``[n]``; null where it does not.
        file: that holds them.
        drops: counts values in units that are not known and, as remarks, those that were turned into another.
        rows: where they stand, ``[n]``, if anybody knows.
        declared: the unit of a measurement whose row tells none, by its name.
    """
    called, told = names.dictionary_encode(), pc.fill_null(units, "").dictionary_encode()
    own, written = called.dictionary.to_pylist(), told.dictionary.to_pylist()
    there = np.flatnonzero(np.asarray(pc.and_(pc.is_valid(values), pc.is_valid(called))))
    pairs = np.asarray(called.indices.fill_null(0)).astype(np.int64) * len(written) + np.asarray(told.indices)
    counts, first = np.bincount(pairs[there], minlength=1), np.zeros(len(own) * len(written) + 1, np.int64)
    first[pairs[there[::-1]]] = there[::-1]  # of several rows of a pair the last that is written is the first
    terms = np.full((len(first), 2), (1.0, 0.0))
    for pair in np.flatnonzero(counts).tolist():
        name, unit = own[pair // len(written)], written[pair % len(written)].strip()
        unit = unit or (declared or {}).get(name, "")
        terms[pair] = _terms(name, unit)
        if np.isnan(terms[pair, 0]):
            row = int(rows[int(first[pair])]) if len(rows) else None
            drops.add(file, _unknown(name, unit, file, drops), int(counts[pair]), row)
        elif terms[pair].tolist() != [1.0, 0.0]:
            words = f"unit of {name}: {plain_unit(unit)} turned into {measurements()[name].unit}"
            drops.remark(file, words, int(counts[pair]))
    if (terms == (1.0, 0.0)).all():
        return values
    factors, offsets = terms[pairs].T
    numbers = np.asarray(pc.fill_null(values, np.nan), np.float64) * factors + offsets
    return pa.array(numbers, pa.float64(), from_pandas=True)


def _unknown(name: str, unit: str, file: str, drops: Drops) -> str:
    """The reason why a value in ``unit`` is left out; with the spelling, unless it is long or one of very many."""
    told = f"the unit of {name} is not known"
    if len(unit) > LONGEST_SHOWN:
        return told
    known = f"{told}: {unit}"
    if (file, known) in drops.counts:
        return known
    shown = sum(table == file and reason.startswith(f"{told}: ") for table, reason in drops.counts)
    return known if shown < MOST_SHOWN else told
