"""Stays from the facts of a table: what all layouts of hospitals share, from ages over 89 to deaths that contradict.

A layout says what its tables tell about a stay (:class:`Facts`) and where its measurements stand (:class:`Measured`);
the rest is the same for all, so that one patient gives one text whatever layout the hospital exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedward.client.data.batch import Batch
from fedward.client.data.buckets import measurements, names_by_code
from fedward.client.data.columns import Table
from fedward.client.data.drops import Drops
from fedward.client.data.events import OLDEST, Event, Kind, Outcome, Stay
from fedward.client.data.measured_units import in_own_units
from fedward.client.data.timeline import Timeline, seconds_of
from fedward.errors import DataError

CLOSING_HOURS = 6.0
"""Clerks close a stay some hours before or after a death in it; a death this near counts as in it."""

READMISSION_DAYS = 30.0
LONGEST_DAYS = 1000.0
"""A stay longer than this is an error of entry."""

WRITTEN = r"^(?P<sign>[<>]=?)?\s*(?P<number>\d+(?:\.\d+)?)$"
"""A number as people write it in a column of text, such as ``<0.01`` for a result below the limit of detection."""

OLDEST_POSSIBLE = 150
HIDDEN_AGES = range(290, 311)
"""What MIMIC-III makes of ages over 89, in whatever layout its patients are written: births 300 years before."""

DEATH_AFTER_DAYS = 2.0
"""A death in hospital that is written this long after the patient left it is another one, or an error."""

_KINDS = {kind: kind.value for kind in Kind}
_SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
_ARRIVALS = {
    "em": "emergency", "el": "elective", "ur": "urgent", "r": "routine",  # HL7 v3 ActPriority
    **{kind: kind for kind in ("emergency", "elective", "urgent", "routine", "observation", "newborn")},
}  # fmt: skip
_UNITS = {
    "medical intensive care unit": "MICU",
    "surgical intensive care unit": "SICU",
    "coronary care unit": "CCU",
    "cardiac vascular intensive care unit": "CVICU",
    "trauma sicu": "TSICU",
    "neuro surgical intensive care unit": "NSICU",
}


class Facts(NamedTuple):
    """What a layout tells about one stay in intensive care, or in hospital where it knows no units.

    Attributes:
        patient: identifier of the person.
        stay: of the stay.
        admission: of the hospital stay around it.
        start: when it began.
        end: when it ended; None while the patient is still there.
        age: whole years at its beginning.
        sex: as the table says it.
        unit: of intensive care.
        arrival: kind of admission, such as ``emergency``.
        diagnosis: at admission, free text.
        died: whether the patient died in hospital; None where that is still open.
        death: when, where that is known.
        death_dated: whether only the day of it is known.
        left: when the patient left hospital.
        group: department or region.
        site: the hospital, where a source has several.
        destination: see :class:`Outcome`.
        readmitted: see :class:`Outcome`.
        codes: see :class:`Outcome`.
        file: that tells of the stay.
        row: where it does.
    """

    patient: str
    stay: str
    admission: str
    start: datetime
    end: datetime | None
    age: int | None
    sex: str = ""
    unit: str = ""
    arrival: str = ""
    diagnosis: str = ""
    died: bool | None = None
    death: datetime | None = None
    death_dated: bool = False
    left: datetime | None = None
    group: str = ""
    site: str = ""
    destination: str | None = None
    readmitted: bool | None = None
    codes: tuple[str, ...] | None = None
    file: str = ""
    row: int | None = None


def stay_of(facts: Facts, drops: Drops) -> Stay | None:
    """The stay, or None where its outcome is open or its facts contradict each other; ``drops`` counts why."""
    table, row = facts.file, facts.row
    reason = _open(facts)
    if reason:
        drops.add(table, reason, row=row, expected=True)
        return None
    reason = _impossible(facts)
    if reason:
        drops.add(table, reason, row=row)
        return None
    drops.use(table)
    if facts.destination is not None and (facts.destination == "died") != facts.died:
        drops.remark(table, "destination and outcome contradict each other: left out of the task discharge")
    end = facts.end or facts.start

    def at_admission(kind: Kind, text: str, value: float | None = None) -> Event:
        return Event(facts.patient, facts.stay, 0.0, kind, _KINDS[kind], value, text)

    events = [
        at_admission(Kind.SEX, _SEXES.get(facts.sex.lower(), "")),
        at_admission(Kind.UNIT, unit_words(facts.unit)),
        at_admission(Kind.ADMISSION, f"{facts.arrival} admission" if facts.arrival else ""),
        at_admission(Kind.DIAGNOSIS, facts.diagnosis),
    ]
    age = None if facts.age is None else min(facts.age, OLDEST)
    if age is not None:
        events.insert(0, at_admission(Kind.AGE, "", float(age)))
    outcome = Outcome(
        died=bool(facts.died),
        unit_hours=hours_between(facts.start, end),
        death_hours=_death_hours(facts, end),
        hospital_hours=None if facts.left is None else hours_between(facts.start, facts.left),
        destination=facts.destination,
        readmitted=facts.readmitted,
        codes=facts.codes,
    )
    order = (seconds_of(facts.start),)
    named = (facts.patient, facts.stay, facts.admission, facts.group)
    return Stay(*named, order, age, outcome, tuple(events), start=facts.start, site=facts.site)


def _open(facts: Facts) -> str:
    if facts.end is None:
        return "still in intensive care, outcome open"
    return "still in hospital, outcome open" if facts.died is None else ""


def _impossible(facts: Facts) -> str:
    end = facts.end or facts.start
    days = hours_between(facts.start, end) / 24.0
    if days < 0 or (facts.left is not None and facts.left < facts.start):
        return "the stay ends before it begins"
    if days > LONGEST_DAYS:
        return f"the stay is longer than {LONGEST_DAYS:.0f} days"
    if facts.age is not None and not (0 <= facts.age <= OLDEST_POSSIBLE or facts.age in HIDDEN_AGES):
        return "the age is not possible"
    return _contradiction(facts, max(facts.left or end, end))


def _contradiction(facts: Facts, left: datetime) -> str:
    """Why a death and an outcome cannot both be true; empty where they can."""
    told = "the death contradicts the outcome: "
    if facts.death is None:
        return ""
    if facts.died is False and facts.start <= facts.death <= left and not facts.death_dated:
        return told + "a time of death within the stay of a survivor"
    if facts.died and facts.death < facts.start - timedelta(days=1):
        return told + "a time of death before the stay"
    if facts.died and facts.death > left + timedelta(days=DEATH_AFTER_DAYS):
        return told + "a time of death long after the stay"
    return ""


def _death_hours(facts: Facts, end: datetime) -> float | None:
    """Hours until death; where only its day is known, until that day begins, so that nothing after it is told."""
    if facts.death is None:
        return None
    hours, unit_hours = hours_between(facts.start, facts.death), hours_between(facts.start, end)
    if facts.death_dated:
        return max(hours, 0.0) or None
    return unit_hours if abs(hours - unit_hours) <= CLOSING_HOURS else hours


def hours_between(start: datetime, end: datetime) -> float:
    """Hours from ``start`` to ``end``."""
    return (end - start).total_seconds() / 3600.0


def unit_words(unit: str) -> str:
    """A unit in one spelling: the abbreviation in brackets, or that of a well-known name, else as written."""
    name, _, short = unit.partition(" (")
    return short.rstrip(")") if short else _UNITS.get(name.strip().lower(), unit)


def death_within(
    deaths: Sequence[tuple[datetime, bool]], start: datetime, left: datetime | None
) -> tuple[datetime, bool] | None:
    """The first of ``deaths`` in a hospital stay: up to a day after its end, for clerks close stays first.

    Each is a time, and whether only its day is known.
    """
    until = None if left is None else left + timedelta(days=1)
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for time, dated in deaths:
        if (day if dated else start) <= time and (until is None or time <= until):
            return time, dated
    return None


def arrival_words(*told: str | None) -> str:
    """The kind of admission in one spelling: the first of ``told`` that is one; empty where none is."""
    return next(filter(None, (_ARRIVALS.get((each or "").strip().lower(), "") for each in told)), "")


def readmitted(end: datetime | None, begins: Sequence[datetime]) -> bool | None:
    """Whether an admission of any kind began within 30 days after ``end``; None without a discharge time."""
    if end is None:
        return None
    return any(timedelta() < begin - end <= timedelta(days=READMISSION_DAYS) for begin in begins)


@dataclass(frozen=True, slots=True)
class Measured:
    """Where a table in long form holds measurements.

    Attributes:
        person: column of the person.
        code: column of what was measured.
        times: columns of times, of which the latest counts: a result is known when it was stored, not when drawn.
        value: column of the number.
        vocabulary: of the codes, see :func:`names_by_code`.
        unit: column of the unit, where there is one.
        comparator: column that says that a value lies below the number, where there is one.
        below: what it says then.
        more: further columns that ``named`` looks at.
        written: columns of text that may hold the number where ``value`` is empty, see :data:`WRITTEN`.
        lenient: whether a value that is no number is counted instead of refused.
        dated: whether the columns of times may be missing, since rows have a date beside them.
    """

    person: str
    code: str
    times: tuple[str, ...]
    value: str
    vocabulary: str = ""
    unit: str = ""
    comparator: str = ""
    below: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    lenient: bool = False
    dated: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that must be there."""
        return (self.person, self.code, self.value, *(() if self.dated else self.times[:1]))

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that may be missing."""
        every = (*self.times, *self.more, *self.written, self.unit, self.comparator)
        return tuple(name for name in every if name and name not in self.needed)

    def values(self, batch: Batch, drops: Drops) -> pa.Array:
        """Numbers, ``[n]``; one that is told to lie below a limit is the next smaller number."""
        numbers = batch.numbers(self.value, drops if self.lenient else None)
        if self.comparator:
            below = pc.is_in(batch.identifiers(self.comparator), value_set=pa.array(self.below))
            numbers = pc.if_else(below, _next_below(numbers), numbers)
        for column in self.written:
            absent = pc.is_null(numbers)
            if numbers.null_count:
                found = _written_numbers(batch.where(absent).text(column))
                numbers = pc.replace_with_mask(numbers, absent, found)
        return numbers


def _next_below(numbers: pa.Array) -> pa.Array:
    return pa.array(np.nextafter(np.asarray(numbers.fill_null(np.nan)), -np.inf))


def _written_numbers(cells: pa.Array) -> pa.Array:
    """Numbers that stand in cells of text; null where a cell holds anything else."""
    parts = pc.extract_regex(cells, WRITTEN)
    numbers = pc.cast(pc.struct_field(parts, "number"), pa.float64())
    return pc.if_else(pc.starts_with(pc.struct_field(parts, "sign"), "<"), _next_below(numbers), numbers)


def add_measurements(
    tables: Sequence[Table],
    measured: Measured,
    timeline: Timeline,
    drops: Drops,
    *,
    named: Callable[[Batch], pa.Array] | None = None,
    units: Callable[[Batch], pa.Array] | None = None,
) -> None:
    """Adds the measurements of a table, or of the parts of one, to a timeline.

    Args:
        tables: its parts; none for a table that is missing.
        measured: its columns.
        timeline: of the stays.
        drops: counts rows and cells that cannot be used.
        named: finds the name of the measurement in each row, null where it is unknown; by the vocabulary if not given.
        units: finds the unit in each row; from the column of units if not given.

    Raises:
        DataError: FW-DATA-015 (no row has a code that is known), FW-DATA-016 (no row is of a person of the stays).
    """
    named, total, known, matched = named or partial(names_of, measured.code, measured.vocabulary), 0, 0, 0
    units = units or (lambda batch: batch.text(measured.unit)) if units or measured.unit else None
    for every in (batch for table in tables for batch in table.read(measured.needed, optional=measured.optional)):
        called = named(every)
        there = np.asarray(pc.is_valid(called))
        persons = every.codes(measured.person)
        ours = of_the_stays(every, persons, timeline, drops, measured.person, there)
        total, known, matched = total + len(every), known + int(there.sum()), matched + int((there & ours).sum())
        chosen = pa.array(there & ours)
        batch, names, persons = every.where(chosen), called.filter(chosen).dictionary_encode(), persons.filter(chosen)
        if not len(batch):
            continue
        seconds, values = known_seconds(batch, measured.times, drops), measured.values(batch, drops)
        if units is not None:
            values = in_own_units(names, values, units(batch), batch.file, drops, batch.rows)
        values = plausible(names, values, batch.file, drops, batch.rows)
        drops.use(batch.file, int((np.isfinite(seconds) & np.isfinite(np.asarray(values.fill_null(np.nan)))).sum()))
        timeline.add(timeline.of_patients(persons, seconds), names, values)
    if tables:
        check_known(tables[0].file, total, known, matched, timeline)


def of_the_stays(
    batch: Batch, keys: pa.Array, timeline: Timeline, drops: Drops, column: str, among: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Which rows are of persons of the stays, ``[n]``.

    Rows that say no person, or one of the stays with other leading zeros, are counted: a table in which nothing matches
    would be refused, but half a table would be lost in silence.

    Args:
        batch: some rows.
        keys: their persons, ``[n]``, as text or as a dictionary of it.
        timeline: of the stays.
        drops: counts.
        column: where the persons stand.
        among: which rows matter, ``[n]``; all if not given.
    """
    coded = keys.dictionary_encode()
    names = coded.dictionary

    def rows(found: pa.Array) -> NDArray[np.bool_]:
        return np.asarray(pc.fill_null(found.take(coded.indices), False))

    ours = rows(pc.is_valid(timeline.places(names)))
    among = np.ones(len(batch), bool) if among is None else among
    nobody = among & np.asarray(coded.indices.is_null())
    if nobody.any():
        drops.add(batch.file, f"{column.upper()} is empty", int(nobody.sum()), int(batch.rows[nobody][0]))
    if timeline.zeros or pc.any(pc.starts_with(names, "0")).as_py():
        other = among & ~ours & rows(pc.is_in(pc.utf8_ltrim(names, "0"), value_set=timeline.without_zeros))
        if other.any():
            words = f"{column.upper()} has other leading zeros than the table of the stays"
            drops.add(batch.file, words, int(other.sum()), int(batch.rows[other][0]))
    return ours


def plausible(
    names: pa.Array,
    values: pa.Array,
    file: str,
    drops: Drops,
    rows: NDArray[np.int64] | None = None,
) -> pa.Array:
    """Values within the plausible range of their measurement, null elsewhere; ``drops`` counts those outside.

    Args:
        names: of measurements, ``[n]``.
        values: numbers in the units of the threshold table, ``[n]``.
        file: that holds them.
        drops: counts by measurement.
        rows: their rows, ``[n]``, where the file has any.
    """
    table, encoded = measurements(), names.dictionary_encode()
    own = encoded.dictionary.to_pylist()
    anything = (-np.inf, np.inf)
    least, largest = np.array([*(table[name].bounds if name in table else anything for name in own), anything]).T
    places = np.asarray(encoded.indices.fill_null(len(own)))
    numbers = np.asarray(pc.fill_null(values, np.nan), np.float64)
    odd = np.flatnonzero((numbers < least.take(places)) | (numbers > largest.take(places)))
    if not len(odd):
        return values
    names_of_odd = places[odd]
    for place in np.flatnonzero(np.bincount(names_of_odd)).tolist():
        mine = odd[names_of_odd == place]
        words = f"{own[place]} is outside the plausible range in {table[own[place]].unit}"
        drops.add(file, words, len(mine), None if rows is None else int(rows[mine[0]]))
    numbers = numbers.copy()
    numbers[odd] = np.nan
    return pa.array(numbers)


def names_of(column: str, vocabulary: str, batch: Batch) -> pa.Array:
    """Names of measurements by the codes in a column, a dictionary ``[n]``; null where the code is not known."""
    names, codes = names_by_code(vocabulary), batch.codes(column)
    places = pc.index_in(codes.dictionary, value_set=pa.array(list(names), pa.string())).take(codes.indices)
    return pa.DictionaryArray.from_arrays(places, pa.array(list(names.values()), pa.string()))


def check_known(name: str, total: int, known: int, matched: int, timeline: Timeline) -> None:
    """Refuses a table called ``name`` of which nothing can be used, see :func:`add_measurements`."""
    if total and not known:
        words = f"No row of {name} has a measurement that fedward knows ({total:,} rows)."
        raise DataError(words, code="FW-DATA-015")
    if known and not matched and len(timeline.chosen):
        words = f"No row of {name} is of a patient of the stays: identifiers match in 0 of {known:,} rows."
        raise DataError(words, code="FW-DATA-016")


def known_seconds(batch: Batch, times: Sequence[str], drops: Drops, *, expected: bool = False) -> NDArray[np.float64]:
    """When each row was known, in seconds since 1970, ``[n]``: the latest of its times; NaN where only a day is.

    ``expected`` tells tables of which many rows have a day only, as notes have.
    """
    first = batch.moments(times[0])
    seconds = np.where(first.dated, np.nan, first.seconds)
    absent = np.isnan(seconds)
    if count := int(absent.sum()):
        words = f"{times[0].upper()} has no time of day"
        drops.add(batch.file, words, count, int(batch.rows[absent][0]), expected=expected)
    for column in times[1:]:
        later = batch.moments(column)
        seconds = np.where(later.dated, seconds, np.fmax(seconds, np.where(np.isnan(seconds), np.nan, later.seconds)))
    return seconds


def by_admission(table: Table, admission: str, code: str) -> Mapping[str, tuple[str, ...]]:
    """Diagnosis codes by admission, without dots and blanks, in capitals."""
    found: dict[str, list[str]] = {}
    for batch in table.read((admission, code)):
        for key, cell in zip(batch.identifiers(admission).to_pylist(), batch.text(code).to_pylist(), strict=True):
            if key and cell:
                found.setdefault(key, []).append(cell.replace(".", "").upper())
    return {key: tuple(codes) for key, codes in found.items()}


def once(
    keys: Sequence[str], seen: set[str], table: Table, column: str, rows: Sequence[int] | NDArray[np.int64] = ()
) -> None:  # fmt: skip
    """Refuses identifiers that stand twice in a table with one row for each; ``rows`` is where they stand.

    Raises:
        DataError: FW-DATA-008.
    """
    for place, key in enumerate(keys):
        if key in seen:
            where = f", again in row {rows[place]:,}" if len(rows) else ""
            raise DataError(f"The file {table.path.name} lists a {column.upper()} twice{where}.", code="FW-DATA-008")
        seen.add(key)
