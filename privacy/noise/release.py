"""Noised statistics of a population of patients: loss, counts and histograms as one integer vector.

Each patient's contribution is bounded and rounded *before* summing, so the sensitivity is exact on the grid. Hospitals
add discrete noise shares, the secure sum adds the hospitals, and only the noised total is ever seen. Cells under 10 are
not zeroed here: a threshold on an exact count would move by ten when one patient is added, and the noise already
covers small cells. :func:`suppress_small_cells` is for the exact releases that a certificate names as not covered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.measures import Statistic
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise.discrete import SAMPLER_DISTANCE, discrete_gaussian, share_sigma, total_sigma
from fedward.privacy.stream import SecureStream

SMALLEST_CELL = 10


@dataclass(frozen=True)
class ReleaseSpec:
    """Layout, bounds and grid of a release; a plan constant.

    Attributes:
        statistics: the blocks, in the order of the vector.
        resolution: grid units per unit of bounded, weighted contribution.
    """

    statistics: tuple[Statistic, ...]
    resolution: int = 2**12

    def __post_init__(self) -> None:
        names = [s.name for s in self.statistics]
        sound = all(s.cells > 0 and s.bound > 0 and s.weight > 0 for s in self.statistics)
        if not names or len(set(names)) != len(names) or not sound or self.resolution < 1:
            raise PrivacyParameterError("A release needs distinct blocks with positive cells, bounds and weights.")

    @property
    def size(self) -> int:
        """Number of cells of the whole vector."""
        return sum(s.cells for s in self.statistics)

    @property
    def l2_sensitivity_grid(self) -> float:
        """Largest L2 norm of one patient's integer contribution."""
        return self.resolution * math.sqrt(sum(s.weight**2 for s in self.statistics))

    @property
    def sampler_distance(self) -> float:
        """Statistical distance of one whole noise vector from the ideal one."""
        return self.size * SAMPLER_DISTANCE

    def encode(self, contributions: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
        """Bounds, rounds and adds up the patients' contributions.

        Args:
            contributions: for each block ``[patients, cells]``, one row per unit; a unit with several records
                has one row. There may be none.

        Returns:
            int64 ``[size]``.

        Raises:
            PrivacyParameterError: a block is missing, unknown or has another shape.
        """
        if set(contributions) != {s.name for s in self.statistics}:
            raise PrivacyParameterError("A release was given other statistics than its plan names.")
        if len({len(rows) for rows in contributions.values()}) != 1:
            raise PrivacyParameterError("The blocks of a release describe different numbers of units.")
        return np.concatenate([self._encode_block(s, contributions[s.name]) for s in self.statistics])

    def decode(self, total: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Turns a summed vector back into the blocks' units, float64 ``[cells]`` each; noise may make them negative."""
        if total.shape != (self.size,):
            raise PrivacyParameterError("A summed release does not have the plan's number of cells.")
        ends = np.cumsum([s.cells for s in self.statistics])[:-1]
        parts = np.split(total.astype(np.float64), ends)
        return {s.name: part / self._scale(s) for s, part in zip(self.statistics, parts, strict=True)}

    def noise_deviation(self, noise_multiplier: float) -> dict[str, float]:
        """Standard deviation of the noise in each block's units, for intervals around released values."""
        sigma = noise_multiplier * self.l2_sensitivity_grid
        return {s.name: sigma / self._scale(s) for s in self.statistics}

    def largest_magnitude(self, *, patients: int, noise_multiplier: float, hospitals: int, honest: int) -> int:
        """Bound on any cell of the sum over all hospitals, for choosing a ring; exceeded with probability below 1e-22.

        Args:
            patients: public bound on the patients of all hospitals together.
            noise_multiplier: as priced.
            hospitals: shares that may be in the sum.
            honest: shares that each hospital's share was sized for.
        """
        noise = total_sigma(noise_multiplier, self.l2_sensitivity_grid) * math.sqrt(hospitals / honest)
        largest = max(s.weight for s in self.statistics) * self.resolution
        return math.ceil(patients * largest + 10 * noise)

    def _scale(self, statistic: Statistic) -> float:
        return self.resolution * statistic.weight / statistic.bound

    def _encode_block(self, statistic: Statistic, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        if rows.ndim != 2 or rows.shape[1] != statistic.cells:
            raise PrivacyParameterError(f"The statistic {statistic.name} does not have its planned number of cells.")
        finite = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
        with np.errstate(over="ignore"):  # an infinite norm clips the row to zero
            norms = np.sqrt((finite**2).sum(axis=1, keepdims=True))
        bounded = finite * (statistic.bound / np.maximum(norms, statistic.bound))
        # Towards zero: rounding to nearest could lift a row above its bound.
        whole = np.trunc(bounded * self._scale(statistic)).astype(np.int64)
        return np.asarray(whole.sum(axis=0), np.int64)


def noisy_release(
    values: NDArray[np.int64],
    *,
    l2_sensitivity_grid: float,
    noise_multiplier: float,
    honest: int,
    stream: SecureStream,
) -> NDArray[np.int64]:
    """Adds one hospital's noise share to its integer statistics, int64 ``[k]``.

    The sum over any cohort with ``honest`` unmodified shares is priced as a Gaussian mechanism with
    ``noise_multiplier``; more shares only add noise. With ``honest=1`` a single vector carries the full noise.

    Args:
        values: this hospital's exact statistics on the grid.
        l2_sensitivity_grid: L2 norm of one patient's largest contribution, in grid units.
        noise_multiplier: as priced by the accountant.
        honest: shares that are sure to be in the sum (t - c).
        stream: randomness.

    Raises:
        PrivacyParameterError: the grid is too coarse for the share, or too fine for the sampler.
    """
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0 and l2_sensitivity_grid > 0):
        raise PrivacyParameterError("A release needs a positive noise multiplier and a positive sensitivity.")
    share = share_sigma(total_sigma(noise_multiplier, l2_sensitivity_grid), honest)
    noise = discrete_gaussian(stream, share, values.size).reshape(values.shape)
    return values + noise


def suppress_small_cells(values: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Zeroes cells to which fewer than ten ``units`` contribute, for releases without noise; before masking."""
    return np.where(units < SMALLEST_CELL, 0, values)
