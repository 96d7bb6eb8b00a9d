"""HetLoRA: hospitals of different ranks train leading parts of the same factors, padded with zeros and added."""

from typing import Literal

from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.strategy import Declaration, Options


class HetLoRAOptions(Options):
    """``weights``: ``rank`` lets a hospital count in proportion to its rank, ``uniform`` counts all the same.

    The published weight is the norm of a hospital's own B A, which says something about its patients. Both choices here
    follow from the plan alone.
    """

    weights: Literal["rank", "uniform"] = "rank"


class HetLoRA(MeanOfDeltas):
    """Zero padding: the weighted mean of the padded deltas of both factors, divided by the weights of all survivors.

    A hospital multiplies its delta by its public weight before it is masked, and the sum is divided by the survivors'
    weights, which everybody knows. What only hospitals of higher rank train moves by their part of the mean. As in
    FedIT, the mean of the factors is not that of the products, and noise on both factors multiplies.
    """

    declaration = Declaration(
        name="hetlora",
        source="Cho et al. 2024, arXiv 2401.06432",
        state=("A", "B", "head"),
        trains=("A", "B", "head"),
        sends="A and B, padded to the full rank, and the head",
        exact=False,
        noise_in_product="quadratic",
        mixed_ranks=True,
    )
    own_options = HetLoRAOptions

    def weight(self, site: str) -> float:
        """See :meth:`Strategy.weight`."""
        if HetLoRAOptions.of(self.plan).weights == "uniform":
            return 1.0
        return self.plan.adapter.rank_of(site) / self.plan.adapter.rank
