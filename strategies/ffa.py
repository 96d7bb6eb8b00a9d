"""FFA-LoRA: one factor stays at its common random start, so that the mean is exact. The default."""

from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.strategy import Declaration


class FFALoRA(MeanOfDeltas):
    """A stays at its common random start and only B is trained: the mean is exact and noise enters linearly.

    A hospital of rank s trains the first s columns of B over the first s rows of the same A, so that ranks may differ.
    """

    declaration = Declaration(
        name="ffa",
        source="Sun et al. 2024, arXiv 2403.12313",
        state=("B", "head"),
        trains=("B", "head"),
        sends="B and the head",
        exact=True,
        noise_in_product="linear",
        mixed_ranks=True,
        server_optimizers=True,
        placements=("local", "secure-grad"),
    )
