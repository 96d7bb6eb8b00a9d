"""Timeline of chosen stays: everything recorded about them until their prediction times, in columns.

Readers add whole batches of rows; an :class:`~fedward.client.data.events.Event` is made only when somebody asks for
those of one stay. A million results of a laboratory take 26 MB here; as objects they would take 170 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedward.client.data.events import Chosen, Event, Kind

LOOK_BACK_HOURS = 24.0
"""Results up to a day before intensive care still describe the patient at admission."""

EPOCH = datetime(1970, 1, 1)
_FEW = 1000
"""Identifiers that are looked up one by one sooner than Arrow builds its index of all patients."""


def seconds_of(time: datetime) -> float:
    """Seconds since 1970 of a time without zone."""
    return (time - EPOCH).total_seconds()


@dataclass(frozen=True, slots=True)
class Match:
    """Rows of a batch that belong to chosen stays; a row may belong to several stays of its patient.

    Attributes:
        rows: which rows of the batch, ``[m]``.
        stays: index of the stay of each, ``[m]``.
        hours: time of each in hours since that stay began, ``[m]``.
    """

    rows: NDArray[np.int64]
    stays: NDArray[np.int64]
    hours: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


class _Column:
    """Numbers that come in pieces, ``[n]``."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._pieces = [np.zeros(0, kind)]

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def add(self, numbers: NDArray[Any]) -> None:
        self._pieces.append(numbers.astype(self._pieces[0].dtype))

    def whole(self) -> NDArray[Any]:
        """All in one piece, which takes the place of the others."""
        self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0]


class _Recorded(Mapping[str, list[Event]]):
    """Events by identifier of the stay, made when somebody asks for those of a stay and held by nobody.

    Args:
        chosen: the stays.
        stays: index of the stay of each measurement, ``[n]``.
        columns: hours since it began, place of the name in ``names``, and value of each, ``[n]``.
        names: of measurements.
        texts: events of words by index of the stay.
    """

    def __init__(
        self,
        chosen: Sequence[Chosen],
        stays: NDArray[np.int32],
        columns: Sequence[NDArray[Any]],
        names: Sequence[str],
        texts: Mapping[int, Sequence[Event]],
    ) -> None:
        self._chosen, self._columns, self._names, self._texts = chosen, columns, names, texts
        self._index = {each.stay.stay: index for index, each in enumerate(chosen)}
        self._order = np.argsort(stays, kind="stable").astype(np.uint32)
        self._ends = [0, *np.cumsum(np.bincount(stays, minlength=len(chosen))).tolist()]

    def __getitem__(self, stay: str) -> list[Event]:
        index, names = self._index[stay], self._names
        own, rows = self._chosen[index].stay, self._order[self._ends[index] : self._ends[index + 1]]
        cells = zip(*(column[rows].tolist() for column in self._columns), strict=True)
        key, kind = (own.patient, own.stay), Kind.MEASUREMENT
        measured = (Event(*key, hour, kind, names[code], value) for hour, code, value in cells)
        return [*measured, *self._texts.get(index, ())]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


class Timeline:
    """Events of chosen stays.

    Args:
        chosen: the stays and their prediction times; each stay once.
        starts: when each began, in seconds since 1970, ``[n]``; not needed where rows tell hours since then.
    """

    def __init__(self, chosen: Sequence[Chosen], starts: Sequence[float] = ()) -> None:
        self.chosen = chosen
        self._until = np.array([each.hours for each in chosen], np.float64)
        self._starts = np.array(starts, np.float64) if len(starts) else np.zeros(len(chosen))
        patients = np.array([each.stay.patient for each in chosen], dtype=object)
        self._order = np.argsort(patients, kind="stable")
        names, self._first = np.unique(patients[self._order].astype(str), return_index=True)
        self._count = np.diff([*self._first, len(chosen)])
        self._one_each = bool((self._count == 1).all())
        self._place = {name: place for place, name in enumerate(names.tolist())}
        self.patients = pa.array(names.tolist(), pa.string())
        self.zeros = any(name.startswith("0") for name in names)
        self.without_zeros = pa.array([name.lstrip("0") for name in names.tolist()], pa.string())
        self.stays = pa.array([each.stay.stay for each in chosen], pa.string())
        self._measured, self._hours = _Column(np.int32), _Column(np.float64)
        self._codes, self._values = _Column(np.int16), _Column(np.float64)
        self._names: dict[str, int] = {}  # and the code of each
        self._texts: dict[int, list[Event]] = {}

    def places(self, patients: pa.Array) -> pa.Array:
        """Where each of some identifiers stands in :attr:`patients`, ``[n]``; null where it does not."""
        if len(patients) > _FEW:
            return pc.index_in(patients, value_set=self.patients)
        return pa.array([self._place.get(patient) for patient in patients.to_pylist()], pa.int32())

    def of_patients(self, patients: pa.Array, seconds: NDArray[np.float64]) -> Match:
        """Matches rows by patient and time: from a day before a stay until its prediction time.

        Args:
            patients: identifiers, ``[n]``, as text or as a dictionary of it.
            seconds: since 1970, ``[n]``; rows whose time is not a number match nothing.
        """
        coded = patients.dictionary_encode()
        codes = self.places(coded.dictionary).take(coded.indices)
        known = np.flatnonzero(np.asarray(codes.is_valid()))
        who = np.asarray(codes.fill_null(-1))[known]
        if self._one_each:
            rows, stays = known, self._order[who]
        else:
            counts = self._count[who]
            rows = np.repeat(known, counts)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            stays = self._order[np.repeat(self._first[who], counts) + within]
        hours = (seconds[rows] - self._starts[stays]) / 3600.0
        return self._until_prediction(rows, stays, hours)

    def of_stays(self, stays: pa.Array, hours: NDArray[np.float64], *, look_back: float = LOOK_BACK_HOURS) -> Match:
        """Matches rows by stay; ``hours`` since it began, ``[n]``."""
        codes = pc.index_in(stays, value_set=self.stays)
        rows = np.flatnonzero(np.asarray(codes.is_valid()))
        return self._until_prediction(
            rows, np.asarray(codes.fill_null(-1))[rows].astype(np.int64), hours[rows], look_back
        )

    def add(self, match: Match, names: pa.Array, values: pa.Array) -> None:
        """Adds measurements; ``names`` and ``values`` are those of the batch, ``[n]``, null where there is none."""
        taken = np.asarray(pc.fill_null(values, np.nan), np.float64)[match.rows]
        coded = names.dictionary_encode()
        places = np.asarray(coded.indices.fill_null(-1))[match.rows]
        there = np.flatnonzero(np.isfinite(taken) & (places >= 0))
        if len(there):
            codes = [self._names.setdefault(name, len(self._names)) for name in coded.dictionary.to_pylist()]
            self._measured.add(match.stays[there])
            self._hours.add(match.hours[there])
            self._codes.add(np.array(codes)[places[there]])
            self._values.add(taken[there])

    def add_text(self, match: Match, kind: Kind, codes: Sequence[str], texts: Sequence[str]) -> None:
        """Adds words, for example notes; ``codes`` and ``texts`` are those of the batch, ``[n]``."""
        for row, stay, hours in zip(match.rows.tolist(), match.stays.tolist(), match.hours.tolist(), strict=True):
            own = self.chosen[stay].stay
            event = Event(own.patient, own.stay, hours, kind, codes[row], None, texts[row])
            self._texts.setdefault(stay, []).append(event)

    @property
    def size(self) -> int:
        """Number of events."""
        return len(self._values) + sum(map(len, self._texts.values()))

    def events(self) -> Mapping[str, list[Event]]:
        """The events by identifier of the stay, in the order in which they were added.

        They are made as objects when a stay is asked for, so that only those of one stay need be held at a time.
        """
        columns = [column.whole() for column in (self._hours, self._codes, self._values)]
        return _Recorded(self.chosen, self._measured.whole(), columns, [*self._names], self._texts)

    def _until_prediction(
        self,
        rows: NDArray[np.int64],
        stays: NDArray[np.int64],
        hours: NDArray[np.float64],
        look_back: float = LOOK_BACK_HOURS,
    ) -> Match:
        kept = np.flatnonzero((hours >= -look_back) & (hours <= self._until[stays]))
        return Match(rows[kept], stays[kept], hours[kept])
