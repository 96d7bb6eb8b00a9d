"""Timeline of chosen stays: everything recorded about them until their prediction times, in columns.

Readers add whole batches of rows; an :class:`~fedward.client.data.events.Event` is made only when somebody asks for
those of one stay. A million results of a laboratory take 30 MB here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedward.client.data.events import Chosen, Event, Kind

LOOK_BACK_HOURS = 24.0
"""Results up to a day before intensive care still describe the patient at admission."""

EPOCH = datetime(1970, 1, 1)


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
        self.patients = pa.array(names.tolist(), pa.string())
        self.zeros = any(name.startswith("0") for name in names)
        self.without_zeros = pa.array([name.lstrip("0") for name in names.tolist()], pa.string())
        self.stays = pa.array([each.stay.stay for each in chosen], pa.string())
        self._numbers: list[tuple[NDArray[np.int64], NDArray[np.float64], pa.DictionaryArray, NDArray[np.float64]]] = []
        self._texts: list[tuple[int, Event]] = []

    def of_patients(self, patients: pa.Array, seconds: NDArray[np.float64]) -> Match:
        """Matches rows by patient and time: from a day before a stay until its prediction time.

        Args:
            patients: identifiers, ``[n]``.
            seconds: since 1970, ``[n]``; rows whose time is not a number match nothing.
        """
        codes = pc.index_in(patients, value_set=self.patients)
        known = np.flatnonzero(np.asarray(codes.is_valid()))
        who = np.asarray(codes.fill_null(-1))[known]
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
        there = np.isfinite(taken)
        if there.any():
            coded = names.take(pa.array(match.rows[there])).dictionary_encode()
            self._numbers.append((match.stays[there], match.hours[there], coded, taken[there]))

    def add_text(self, match: Match, kind: Kind, codes: Sequence[str], texts: Sequence[str]) -> None:
        """Adds words, for example notes; ``codes`` and ``texts`` are those of the batch, ``[n]``."""
        for row, stay, hours in zip(match.rows.tolist(), match.stays.tolist(), match.hours.tolist(), strict=True):
            own = self.chosen[stay].stay
            self._texts.append((stay, Event(own.patient, own.stay, hours, kind, codes[row], None, texts[row])))

    @property
    def size(self) -> int:
        """Number of events."""
        return sum(len(stays) for stays, *_ in self._numbers) + len(self._texts)

    def events(self) -> dict[str, list[Event]]:
        """Every event as an object, by identifier of the stay, in the order in which they were added."""
        found: dict[str, list[Event]] = {each.stay.stay: [] for each in self.chosen}
        for stays, hours, codes, values in self._numbers:
            rows = zip(stays.tolist(), hours.tolist(), codes.to_pylist(), values.tolist(), strict=True)
            for stay, hour, code, value in rows:
                own = self.chosen[stay].stay
                found[own.stay].append(Event(own.patient, own.stay, hour, Kind.MEASUREMENT, code, value))
        for stay, event in self._texts:
            found[self.chosen[stay].stay.stay].append(event)
        return found

    def _until_prediction(
        self,
        rows: NDArray[np.int64],
        stays: NDArray[np.int64],
        hours: NDArray[np.float64],
        look_back: float = LOOK_BACK_HOURS,
    ) -> Match:
        kept = (hours >= -look_back) & (hours <= self._until[stays])
        return Match(rows[kept], stays[kept], hours[kept])
