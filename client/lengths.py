"""Lengths of records in tokens: which of them a language model would not read whole, before anything trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedward.client.data.example import Example
from fedward.client.models.registry import ModelFiles
from fedward.client.models.templates import Writer
from fedward.client.models.tokens import check_max_tokens
from fedward.client.tasks.language import LanguageTask

SHOWN = 20
"""Records that are named in words."""


@dataclass(frozen=True)
class Lengths:
    """Records that do not fit, by their number among those that the task takes, from 1."""

    max_tokens: int
    records: int
    too_long: tuple[int, ...]  # not a word of the answer fits, or not every option: they are left out
    cut: tuple[int, ...]  # the end of the answer does not fit, and is not learnt

    def to_value(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The same in words."""
        return [
            f"Text length {self.max_tokens} tokens, {self.records:,} records: "
            f"{len(self.too_long):,} left out, as their answer does not fit{_named(self.too_long)}; "
            f"{len(self.cut):,} with the end of the answer cut{_named(self.cut)}."
        ]


def _named(records: Sequence[int]) -> str:
    shown = ", ".join(map(str, records[:SHOWN]))
    return f" (record {shown}{', ...' if len(records) > SHOWN else ''})" if records else ""


def lengths_of(task: LanguageTask, files: ModelFiles, examples: Sequence[Example], *, max_tokens: int) -> Lengths:
    """Writes every record as the model would read it; nothing is computed.

    Raises FW-MODEL-006 (``max_tokens`` beyond the model's positions), FW-MODEL-011 (its chat template is unknown).
    """
    check_max_tokens(files, max_tokens)
    writer = Writer(files)
    fits = [task.fit(writer, example, max_tokens) for example in examples]

    def numbers(found: str) -> tuple[int, ...]:
        return tuple(number for number, fit in enumerate(fits, 1) if fit == found)

    return Lengths(max_tokens, len(fits), numbers("too long"), numbers("cut"))
