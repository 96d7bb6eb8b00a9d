"""Preference at a site: a chosen and a rejected answer, each scored with its end after what both of them answer."""

from collections.abc import Sequence
from typing import Any

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.models.templates import Writer, Written
from fedward.client.tasks.options import OptionSource, OptionTask
from fedward.measures import Outcomes
from fedward.tasks.preference import TASK


class Preference(OptionTask):
    """Scores answers with their end; the chosen one stands first."""

    def write_option(self, writer: Writer, turns: Sequence[Turn], option: str) -> Written:
        """See :meth:`OptionTask.write_option`."""
        return writer.answered(turns, option)

    def details(self, outcomes: Outcomes) -> list[dict[str, Any]]:
        """See :meth:`LocalTask.details`: the summed loss of both answers in nats."""
        sums = -outcomes.scores[:, :, 0]
        return [{"chosen": float(chosen), "rejected": float(rejected)} for chosen, rejected in sums]


def _answers(item: Item) -> tuple[list[str], int] | None:
    both = [item.texts.get(role, "") for role in ("chosen", "rejected")]
    return (both, 0) if all(text.strip() for text in both) else None


LOCAL = Preference(TASK, OptionSource("chosen", "rejected", asked=lambda item: item.turns, options=_answers))
