"""FedSA-LoRA: what hospitals have in common is shared, what is particular to each stays there.

Guo et al. 2024, https://arxiv.org/abs/2410.01463: the factors A of different clients come out alike, the factors B do
not. Only A is averaged. B and the head of a hospital never leave it, so every hospital ends with a model of its own.
"""

from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.strategy import Declaration


class FedSA(MeanOfDeltas):
    """The mean of A; B and the head are personal.

    Personal does not mean free. Each patient's gradient over A, B and head is clipped and noised as a whole before any
    of them moves, so the personal tensors carry the same guarantee as what is sent, and the ledger is charged once for
    both.
    """

    declaration = Declaration(
        name="fedsa",
        source="Guo et al. 2024, arXiv 2410.01463",
        state=("A",),
        trains=("A", "B", "head"),
        personal=("B", "head"),
        sends="A",
        exact=False,
        noise_in_product="quadratic",
    )
