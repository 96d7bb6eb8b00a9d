"""FedSB: only a small matrix between two frozen orthonormal factors is trained."""

from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.strategy import Declaration


class FedSB(MeanOfDeltas):
    """``W0 + (alpha / r) B R A`` with public orthonormal B and A: linear in R, so the mean is exact.

    A message has r^2 numbers per layer where FFA-LoRA sends r m, and noise of the same size per number is smallest in
    B R A. No direction outside the frozen factors can be reached, so it wants a higher rank. A hospital of lower rank
    trains the leading block of R, and its delta counts as zero outside of it.
    """

    declaration = Declaration(
        name="fedsb",
        source="Singhal et al. 2025, arXiv 2502.15436",
        state=("R", "head"),
        trains=("R", "head"),
        sends="R and the head",
        exact=True,
        noise_in_product="linear",
        mixed_ranks=True,
        placements=("local", "secure-grad"),
    )
