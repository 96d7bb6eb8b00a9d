"""RoLoRA: rounds alternate between the two factors, so that each round averages one of them exactly."""

from typing import Literal, Self

from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.strategies.mean import MeanOfDeltas
from fedward.strategies.strategy import Declaration, Kind, Options


class RoLoRAOptions(Options):
    """``alternate``: ``rounds`` trains B in odd rounds and A in even ones; ``steps`` alternates inside a round.

    With ``steps`` both factors are sent every round. The mean is no longer exact (the cross terms of the two deltas
    remain, as in FedIT), but every round moves both.
    """

    alternate: Literal["rounds", "steps"] = "rounds"

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """See :meth:`Options.of`; raises FW-STRATEGY-004 also where a round has no second step for A."""
        options = super().of(plan)
        if options.alternate == "steps" and plan.training.local_steps < 2:
            message = "alternate = 'steps' needs training.local_steps of at least 2, or A never moves."
            raise ConfigError(message, code="FW-STRATEGY-004")
        return options


class RoLoRA(MeanOfDeltas):
    """B with A fixed, then A with B fixed: the mean of a round's products is the product with the mean.

    B goes first, because it starts at zero and A has no gradient before B has moved. The head is trained every time.
    Each factor's Adam moments wait while the other is trained.
    """

    declaration = Declaration(
        name="rolora",
        source="Chen et al. 2025, arXiv 2502.01755",
        state=("A", "B", "head"),
        trains=("A", "B", "head"),
        sends="B and the head in odd rounds, A and the head in even ones",
        exact=True,
        noise_in_product="linear",
    )
    own_options = RoLoRAOptions

    def trained(self, round_number: int, local_step: int) -> frozenset[Kind]:
        """See :meth:`Strategy.trained`."""
        turn = round_number - 1 if RoLoRAOptions.of(self.plan).alternate == "rounds" else local_step
        return frozenset({"A" if turn % 2 else "B", "head"})
