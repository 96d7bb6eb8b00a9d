"""Poisson sampling over patients, the sampling that the accountant prices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.errors import PreflightError
from fedward.privacy.stream import SecureStream, poisson_sample


class UnitSampler:
    """Draws batches by including each patient independently; the batch size is random and may be zero.

    Clipping bounds a patient's whole contribution, so the guarantee is the patient's. Sampling notes instead of
    patients would only give a guarantee per note: with 20 notes of one patient its epsilon is many times larger.

    Args:
        patients: integer patient number of each record, int64 ``[records]``.
        sampling_rate: the plan's q in (0, 1].
        stream: randomness.
        max_records_per_unit: at most this many records of a sampled patient, chosen uniformly anew each time.
    """

    sampler_name = "poisson"

    def __init__(
        self,
        patients: NDArray[np.int64],
        sampling_rate: float,
        stream: SecureStream,
        *,
        max_records_per_unit: int = 1,
    ) -> None:
        if patients.ndim != 1 or max_records_per_unit < 1:
            raise PreflightError(
                "The sampler needs one unit number per record and at least one record each.", code="FW-DP-013"
            )
        self._rate = sampling_rate
        self._stream = stream
        self._limit = max_records_per_unit
        self._order = np.argsort(patients, kind="stable").astype(np.int64)
        self._ids, first, self._counts = np.unique(patients[self._order], return_index=True, return_counts=True)
        self._first = first.astype(np.int64)

    @property
    def patient_count(self) -> int:
        """Number of distinct patients. Not for release: it is data."""
        return int(self._ids.size)

    def sample(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns ``(records, patients)``, int64 ``[b]`` each, grouped by patient; ``b`` may be 0."""
        chosen = np.flatnonzero(poisson_sample(self._stream, self._ids.size, self._rate))
        records = [self._records_of(index) for index in chosen]
        sizes = [part.size for part in records]
        empty = np.empty(0, np.int64)
        return np.concatenate([empty, *records]), np.repeat(self._ids[chosen], sizes).astype(np.int64)

    def _records_of(self, index: np.int64) -> NDArray[np.int64]:
        start, count = self._first[index], int(self._counts[index])
        own = self._order[start : start + count]
        if count <= self._limit:
            return own
        keys = self._stream.uint64(count)
        return np.sort(own[np.argsort(keys, kind="stable")[: self._limit]])
