"""Figures to reach, and the word that stands beside each measured one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

Value = float | Sequence[str] | None


@dataclass(frozen=True)
class Target:
    """A figure to reach: at least or at most a limit, or a list of names; without a limit it is only reported."""

    key: str
    text: str
    at_least: float | None = None
    at_most: float | None = None
    includes: tuple[str, ...] = ()

    def verdict(self, value: Value) -> str:
        """Returns one word for the table."""
        if value is None:
            return "not measured"
        if self.limit == "":
            return "reported"
        if not isinstance(value, int | float):
            reached = set(self.includes) <= set(value)
        else:
            reached = (self.at_least is None or value >= self.at_least) and (
                self.at_most is None or value <= self.at_most
            )
        return "reached" if reached else "MISSED"

    @property
    def limit(self) -> str:
        """Returns the limit as text."""
        if self.includes:
            return f"all {len(self.includes)}"
        bounds = [(">=", self.at_least), ("<=", self.at_most)]
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


def table(title: str, targets: Sequence[Target], document: Mapping[str, Any]) -> Table:
    """Every figure beside its target."""
    rows = Table(title=title, title_justify="left")
    for heading in ("figure", "value", "target", ""):
        rows.add_column(heading)
    for target in targets:
        value = document.get(target.key)
        rows.add_row(target.text, _shown(value), target.limit, target.verdict(value))
    return rows


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, int | float) else str(len(value))
