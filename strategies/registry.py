"""Strategies by name. Adding one is one file and one line here.

Look-ups only: what a strategy goes together with is decided in ``combinations.py``. Two kinds of names stand for no
strategy of their own. An **alias** is a published method that is FFA-LoRA with one setting made; a scenario may name
it, a plan spells it out. A **refusal** is a published method that reads the update of a single hospital at the server,
which secure aggregation never shows; a dense sum instead, where possible, costs many times the traffic of the factors.
"""

import difflib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal

from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.strategies.strategy import Strategy

STRATEGIES: dict[str, str] = {
    "ffa": "fedward.strategies.ffa:FFALoRA",
    "fedit": "fedward.strategies.fedit:FedIT",
    "fedsvd": "fedward.strategies.fedsvd:FedSVD",
    "fedsb": "fedward.strategies.fedsb:FedSB",
    "fedask": "fedward.strategies.contrib.fedask:FedASK",
    "feddpa": "fedward.strategies.contrib.feddpa:FedDPA",
    "fedsa": "fedward.strategies.contrib.fedsa:FedSA",
    "group-median": "fedward.strategies.contrib.group_median:MedianOfGroups",
    "hetlora": "fedward.strategies.contrib.hetlora:HetLoRA",
    "rolora": "fedward.strategies.contrib.rolora:RoLoRA",
    "scaffold": "fedward.strategies.contrib.scaffold:Scaffold",
}
"""Module and class of each strategy, imported when a plan names it: code that no plan names does not run."""

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

NAMES = (*STRATEGIES, *ALIASES)
"""What a scenario may name; a plan holds no alias."""

ALSO_CALLED = {
    "fedavg": "ffa",
    "dpscaffold": "scaffold",
    "medianofmeans": "group-median",
    "lora": "fedit",
    "fed": "fedit",
    "pfed": "feddpa",
}
"""Published names, without case, hyphens and the ending LoRA, that are not spelt like those here."""


@dataclass(frozen=True)
class Refusal:
    """Why a method is refused, as the end of a sentence, and the strategy to use instead."""

    name: str
    reason: str
    instead: str


_REFUSALS = (
    Refusal("flora", "it stacks each hospital's own factors (arXiv 2409.05976)", "fedask"),
    Refusal("flexlora", "it multiplies each hospital's factors before it adds them (arXiv 2402.11505)", "fedask"),
    Refusal("fedex-lora", "its residual is the mean of each hospital's product B A (arXiv 2410.09432)", "fedsvd"),
    Refusal("lora-fair", "it fits B to the mean of each hospital's product B A (arXiv 2411.14961)", "ffa"),
    Refusal("flora-na", "it fits its factors to each hospital's own product B A", "fedsvd"),
    Refusal("florist", "it decomposes the stacked factors of single hospitals", "fedask"),
    Refusal("fedpower", "its power iteration reads the product B A of single hospitals", "fedask"),
    Refusal("krum", "it compares the deltas of hospitals pair by pair", "group-median"),
    Refusal("multi-krum", "it compares the deltas of hospitals pair by pair", "group-median"),
    Refusal("bulyan", "it selects among the deltas of single hospitals", "group-median"),
    Refusal("median", "it sorts the deltas of single hospitals", "group-median"),
    Refusal("trimmed-mean", "it sorts the deltas of single hospitals", "group-median"),
    Refusal("geometric-median", "it weighs each hospital's delta by its distance from the others", "group-median"),
    Refusal("foolsgold", "it compares the deltas of hospitals pair by pair", "group-median"),
    Refusal("fltrust", "it weighs each hospital's delta by its angle to a trusted one", "group-median"),
    Refusal("clustering", "it groups hospitals by their own deltas", "fedsa"),
)
REFUSALS: dict[str, Refusal] = {refusal.name: refusal for refusal in _REFUSALS}

_ALSO_CALLED = {
    "flex-lora": "flexlora",
    "fedex": "fedex-lora",
    "lorafair": "lora-fair",
    "florana": "flora-na",
    "fedmedian": "median",
    "coordinate-wise-median": "median",
    "coordinate-median": "median",
    "multikrum": "multi-krum",
    "fedtrimmedavg": "trimmed-mean",
    "trimmed": "trimmed-mean",
    "clustered": "clustering",
    "ifca": "clustering",
}


def find_strategy(name: str) -> type[Strategy]:
    """The strategy ``name``. Raises FW-STRATEGY-002 (it cannot work on sums), FW-STRATEGY-001 (there is none)."""
    if name in STRATEGIES:
        return _imported(STRATEGIES[name])
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    refusal = REFUSALS.get(_ALSO_CALLED.get(plain, plain))
    if refusal is not None:
        why = f"needs individual updates, which encrypted sums hide: {refusal.reason}"
        fix = f"Use {refusal.instead!r} instead."
        raise ConfigError(f"The strategy {refusal.name!r} {why}.", code="FW-STRATEGY-002", fix=fix)
    if name in ALIASES:
        hint = f"Write strategy = {STRATEGY!r} and {ALIASES[name].setting} in the plan."
        message = f"{name!r} is short for a setting, which a plan spells out."
        raise ConfigError(message, code="FW-STRATEGY-001", fix=hint)
    names = {_plain(known): known for known in NAMES} | ALSO_CALLED
    near = difflib.get_close_matches(_plain(name), names, n=1)
    hint = f"Did you mean {names[near[0]]!r}?" if near else f"Known strategies: {', '.join(sorted(NAMES))}."
    raise ConfigError(f"There is no strategy {name!r}.", code="FW-STRATEGY-001", fix=hint)


@cache
def _imported(path: str) -> type[Strategy]:
    module, _, kind = path.partition(":")
    found: type[Strategy] = getattr(import_module(module), kind)
    return found


def _plain(name: str) -> str:
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    return letters if letters in ("lora", "rolora") else letters.removesuffix("lora")


def base_of(name: str) -> str:
    """The strategy behind ``name``: ``ffa`` for an alias, otherwise the name itself."""
    return STRATEGY if name in ALIASES else name


def spelt_out(plan: Plan) -> Plan:
    """``plan`` with strategy and setting in the place of an alias; mu of FedProx stays if the plan has one.

    Raises FW-STRATEGY-004 (the alias was given options, or another optimizer than its own).
    """
    alias = ALIASES.get(plan.strategy)
    if alias is None:
        return plan
    if plan.strategy_options:
        fix = f"Set {alias.setting} instead."
        raise ConfigError(f"The strategy {plan.strategy!r} has no options.", code="FW-STRATEGY-004", fix=fix)
    section = getattr(plan, alias.section)
    given = getattr(section, alias.key)
    if alias.section == "optimizer" and given not in (*UNSET, alias.value):
        message = f"The strategy {plan.strategy!r} was given another optimizer, {given!r}."
        fix = f"Remove optimizer.rule, or write strategy = {STRATEGY!r}."
        raise ConfigError(message, code="FW-STRATEGY-004", fix=fix)
    setting = {alias.key: alias.value if given in UNSET else given}
    return plan.model_copy(update={"strategy": STRATEGY, alias.section: section.model_copy(update=setting)})


def in_words(plan: Plan, name: str = "") -> str:
    """The strategy of ``plan`` with what is set around it, ``ffa, proximal 0.1``, behind the ``name`` asked for."""
    around = [f"proximal {plan.training.proximal}"] if plan.training.proximal else []
    around += [f"optimizer {plan.optimizer.rule}"] if plan.optimizer.rule else []
    words = ", ".join([plan.strategy, *around])
    return f"{name} ({words})" if name in ALIASES else words
