"""Strategies by name. Adding one is one file and one line here.

Look-ups only: what a strategy goes together with is decided in ``combinations.py``.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module

from fedward.errors import ConfigError
from fedward.strategies.aliases import ALIASES, STRATEGY
from fedward.strategies.refusals import refuse_individual
from fedward.strategies.strategy import Strategy

STRATEGIES: dict[str, str] = {
    "ffa": "fedward.strategies.mean:FFALoRA",
    "fedit": "fedward.strategies.mean:FedIT",
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


def find_strategy(name: str) -> type[Strategy]:
    """The strategy ``name``.

    Raises:
        ConfigError: FW-STRATEGY-002, it cannot work on sums; names the nearest one that does.
        ConfigError: FW-STRATEGY-001, there is no such strategy.
    """
    if name in STRATEGIES:
        return _imported(STRATEGIES[name])
    refuse_individual(name)
    if name in ALIASES:
        hint = f"Write strategy = {STRATEGY!r} and {ALIASES[name].setting} in the plan."
        raise ConfigError(
            f"{name!r} is short for a setting, which a plan spells out.", code="FW-STRATEGY-001", fix=hint
        )
    near = _nearest(name)
    hint = f"Did you mean {near!r}?" if near else f"Known strategies: {', '.join(sorted(NAMES))}."
    raise ConfigError(f"There is no strategy {name!r}.", code="FW-STRATEGY-001", fix=hint)


@cache
def _imported(path: str) -> type[Strategy]:
    module, _, kind = path.partition(":")
    found: type[Strategy] = getattr(import_module(module), kind)
    return found


def _nearest(name: str) -> str | None:
    """The strategy that a published or mistyped ``name`` probably means."""
    plain = _plain(name)
    names = {_plain(known): known for known in NAMES} | ALSO_CALLED
    near = difflib.get_close_matches(plain, names, n=1)
    return names[near[0]] if near else None


def _plain(name: str) -> str:
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    return letters if letters in ("lora", "rolora") else letters.removesuffix("lora")
