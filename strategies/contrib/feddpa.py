"""A global adapter and a private local one beside it, in the manner of FedDPA.

Yang et al. 2024, https://arxiv.org/abs/2403.19211: each client trains the global adapter with the others and then, with
the global one held still, a local adapter that it never sends. Here the global adapter is that of FFA-LoRA, so a local
one on the same frozen A is an offset to B and to the head: W = W0 + (alpha / r) (B + B_i) A. The paper weighs both by
how much an input resembles the local training data, another query of patients' records; here the weight is a constant.
"""

from typing import Annotated

from pydantic import Field

from fedward.plan import Plan
from fedward.strategies.ffa import FFALoRA
from fedward.strategies.strategy import Declaration, Options


class DualOptions(Options):
    """``personal_steps`` of each round train the local adapter and are charged like any others; ``personal_weight``
    multiplies it when the personal model is scored."""

    personal_steps: Annotated[int, Field(ge=1, le=10_000)] = 2
    personal_weight: Annotated[float, Field(gt=0, le=1)] = 1.0


class FedDPA(FFALoRA):
    """FFA-LoRA whose hospitals train a local offset after the global steps of each round."""

    declaration = Declaration(
        name="feddpa",
        source="Yang et al. 2024, arXiv 2403.19211",
        state=("B", "head"),
        trains=("B", "head"),
        sends="B and the head, without the hospital's own offset to them",
        exact=True,
        noise_in_product="linear",
        local_adapter=True,
    )
    own_options = DualOptions

    @classmethod
    def personal_steps(cls, plan: Plan) -> int:
        """Steps of the local adapter in each training round."""
        return DualOptions.of(plan).personal_steps

    @classmethod
    def personal_weight(cls, plan: Plan) -> float:
        """Weight of the local adapter in the personal model."""
        return DualOptions.of(plan).personal_weight
