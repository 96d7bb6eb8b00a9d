"""Strategies whose update is the plain mean of the survivors' deltas: FedIT and FFA-LoRA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.strategies.strategy import Declaration, Strategy


class MeanOfDeltas(Strategy):
    """``adapter + sum / n`` (McMahan et al. 2017, unweighted: hospitals count the same, so no size is revealed)."""

    def update(self, adapter: Vector, delta_sum: NDArray[np.float64], survivors: int, layout: AdapterLayout) -> Vector:
        """See :meth:`Strategy.update`. One division and one addition in float64, then one rounding to float32."""
        if adapter.shape != (layout.size,) or delta_sum.shape != (layout.size,) or survivors < 1:
            raise ValueError("the sum does not fit the adapter layout")
        return (adapter.astype(np.float64) + delta_sum / survivors).astype(np.float32)


class FedIT(MeanOfDeltas):
    """Both factors are trained and averaged separately; the mean of products is not the product of means."""

    declaration = Declaration(
        name="fedit",
        source="Zhang et al. 2023, arXiv 2305.05644",
        trains_a=True,
        exact=False,
        noise_in_product="quadratic",
        exact_replay=True,
    )


class FFALoRA(MeanOfDeltas):
    """A stays at its common random start and only B is trained: the mean is exact and noise enters linearly."""

    declaration = Declaration(
        name="ffa",
        source="Sun et al. 2024, arXiv 2403.12313",
        trains_a=False,
        exact=True,
        noise_in_product="linear",
        exact_replay=True,
    )
