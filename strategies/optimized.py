"""FFA-LoRA under the names of the methods that change one thing about it: FedProx and the server optimizers.

Each is the strategy ``ffa`` with one setting of the plan made; ``[update]`` and ``training.proximal`` bring the same to
any other strategy that allows it. Sources and rules are in :mod:`fedward.strategies.adaptive`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from fedward.config import Section
from fedward.errors import ConfigError
from fedward.plan import Plan, UpdatePlan
from fedward.strategies.mean import FFALoRA

DEFAULT_PROXIMAL = 0.1


class FedProx(FFALoRA):
    """Local steps are held near the round's adapter, with mu = 0.1 unless ``training.proximal`` says otherwise."""

    declaration = replace(
        FFALoRA.declaration, name="fedprox", source="Li et al. 2020, arXiv 1812.06127", placements=("local",)
    )

    @classmethod
    def proximal(cls, plan: Plan) -> float:
        """See :meth:`Strategy.proximal`."""
        return plan.training.proximal or DEFAULT_PROXIMAL


class _Optimized(FFALoRA):
    rule: ClassVar[Literal["fedavgm", "fedadagrad", "fedadam", "fedyogi"]]

    @classmethod
    def options(cls, plan: Plan) -> Section:
        """No options, and no other optimizer in ``[update]``; raises FW-STRATEGY-004."""
        if plan.update.optimizer not in ("mean", cls.rule):
            raise ConfigError(
                f"The strategy {cls.rule!r} was given another optimizer in [update].", code="FW-STRATEGY-004"
            )
        return super().options(plan)

    @classmethod
    def update(cls, plan: Plan) -> UpdatePlan:
        """The plan's rates and moments with this strategy's rule."""
        return plan.update.model_copy(update={"optimizer": cls.rule})


class FedAvgM(_Optimized):
    """Server momentum on the averaged delta."""

    rule = "fedavgm"
    declaration = replace(
        FFALoRA.declaration,
        name=rule,
        source="Hsu et al. 2019, arXiv 1909.06335",
        exact=False,  # the product moves by a step of the optimizer, not to the mean of products
        placements=("local",),
    )


class FedAdagrad(_Optimized):
    """Adagrad on the averaged delta."""

    rule = "fedadagrad"
    declaration = replace(
        FedAvgM.declaration,
        name=rule,
        source="Reddi et al. 2021, arXiv 2003.00295",
        noise_in_product="normalised",
    )


class FedAdam(_Optimized):
    """Adam on the averaged delta."""

    rule = "fedadam"
    declaration = replace(FedAdagrad.declaration, name=rule)


class FedYogi(_Optimized):
    """Yogi on the averaged delta."""

    rule = "fedyogi"
    declaration = replace(FedAdagrad.declaration, name=rule)
