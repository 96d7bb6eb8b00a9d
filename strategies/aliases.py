"""Aliases: published methods that are FFA-LoRA with one setting made. A scenario may name one; a plan spells it out.

The setting brings the same to any other strategy that allows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedward.errors import ConfigError
from fedward.plan import Plan

STRATEGY = "ffa"
UNSET = (None, 0.0, "mean")
"""Values of a setting that leave it to the alias."""


@dataclass(frozen=True)
class Alias:
    """``section.key = value`` on the strategy ``ffa``, and the paper."""

    section: Literal["training", "optimizer"]
    key: str
    value: float | str
    source: str

    @property
    def setting(self) -> str:
        """The setting as one writes it."""
        return f"{self.section}.{self.key} = {self.value!r}"


_REDDI = "Reddi et al. 2021, arXiv 2003.00295"
ALIASES: dict[str, Alias] = {
    "fedprox": Alias("training", "proximal", 0.1, "Li et al. 2020, arXiv 1812.06127"),
    "fedavgm": Alias("optimizer", "rule", "fedavgm", "Hsu et al. 2019, arXiv 1909.06335"),
    "fedadagrad": Alias("optimizer", "rule", "fedadagrad", _REDDI),
    "fedadam": Alias("optimizer", "rule", "fedadam", _REDDI),
    "fedyogi": Alias("optimizer", "rule", "fedyogi", _REDDI),
}


def base_of(name: str) -> str:
    """The strategy behind ``name``: ``ffa`` for an alias, otherwise the name itself."""
    return STRATEGY if name in ALIASES else name


def spelt_out(plan: Plan) -> Plan:
    """``plan`` with strategy and setting in the place of an alias; mu of FedProx stays if the plan has one.

    Raises:
        ConfigError: FW-STRATEGY-004, the alias was given options, or another optimizer than its own.
    """
    alias = ALIASES.get(plan.strategy)
    if alias is None:
        return plan
    if plan.strategy_options:
        raise ConfigError(
            f"The strategy {plan.strategy!r} has no options.",
            code="FW-STRATEGY-004",
            fix=f"Set {alias.setting} instead.",
        )
    section = getattr(plan, alias.section)
    given = getattr(section, alias.key)
    if alias.section == "optimizer" and given not in (*UNSET, alias.value):
        raise ConfigError(
            f"The strategy {plan.strategy!r} was given another optimizer, {given!r}.",
            code="FW-STRATEGY-004",
            fix=f"Remove optimizer.rule, or write strategy = {STRATEGY!r}.",
        )
    setting = {alias.key: alias.value if given in UNSET else given}
    return plan.model_copy(update={"strategy": STRATEGY, alias.section: section.model_copy(update=setting)})


def in_words(plan: Plan, name: str = "") -> str:
    """The strategy of ``plan`` with what is set around it, ``ffa, proximal 0.1``, behind the ``name`` asked for."""
    around = [f"proximal {plan.training.proximal}"] if plan.training.proximal else []
    around += [f"optimizer {plan.optimizer.rule}"] if plan.optimizer.rule else []
    words = ", ".join([plan.strategy, *around])
    return f"{name} ({words})" if name in ALIASES else words
