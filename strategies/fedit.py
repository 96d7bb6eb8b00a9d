"""FedIT: both factors of LoRA are trained and averaged separately."""

from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.strategy import Declaration


class FedIT(MeanOfDeltas):
    """Both factors are trained and averaged separately; the mean of products is not the product of means."""

    declaration = Declaration(
        name="fedit",
        source="Zhang et al. 2023, arXiv 2305.05644",
        state=("A", "B", "head"),
        trains=("A", "B", "head"),
        sends="A, B and the head",
        exact=False,
        noise_in_product="quadratic",
        server_optimizers=True,
        placements=("local", "secure-grad"),
    )
