"""Choice at a site: a question with its options, each scored as the evaluation harness of language models does.

A model without a chat template reads ``Question: ...`` and ``Answer:``, then a blank and the option; else the question
is the user's turn and the option the assistant's. The end of the option is not scored.
"""

from collections.abc import Sequence

from fedward.client.corpora.corpus import Item, Turn
from fedward.client.models.templates import PLAIN, Writer, Written
from fedward.client.tasks.options import OptionSource, OptionTask
from fedward.tasks.choice import TASK


class Choice(OptionTask):
    """Scores options without their end."""

    def write_option(self, writer: Writer, turns: Sequence[Turn], option: str) -> Written:
        """See :meth:`OptionTask.write_option`."""
        if writer.template is PLAIN:
            return writer.continued(_asked_plainly(turns), f" {option}")
        return writer.answered(_joined(turns), option, ended=False)

    def prompt(self, writer: Writer, turns: Sequence[Turn]) -> list[int]:
        """See :meth:`LanguageTask.prompt`."""
        return writer.text(_asked_plainly(turns), ended=False).ids if writer.template is PLAIN else writer.prompt(turns)


def _asked_plainly(turns: Sequence[Turn]) -> str:
    *before, question = (turn.text for turn in turns)
    return "\n".join((*before, f"Question: {question}", "Answer:"))


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    return [Turn("user", "\n".join(turn.text for turn in turns))]


def _asked(item: Item) -> list[Turn]:
    texts = (item.texts.get(role, "") for role in ("context", "question"))
    return [Turn("user", text) for text in texts if text.strip()]


def _options(item: Item) -> tuple[list[str], int] | None:
    if item.right not in item.options:
        return None
    return list(item.options.values()), list(item.options).index(item.right)


LOCAL = Choice(TASK, OptionSource("question", "options", asked=_asked, options=_options))
