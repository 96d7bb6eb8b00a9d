"""Options: answers to one question, of which a language model is to think the right one likeliest.

Every option is a text of its own: what was asked, then the option. Its score is the sum of log p over the tokens of the
option. The loss of a record is the cross-entropy over the scores of its options: forward pass k reads option k of every
record, and all of them are added inside the record's loss, so a record's gradient depends on that record alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedward.client.corpora.corpus import Corpus, Item, Turn
from fedward.client.data.drops import Drops
from fedward.client.data.example import Example
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.inputs import OptionInputs, calls_on
from fedward.client.models.registry import ModelFiles
from fedward.client.models.templates import Writer, Written
from fedward.client.models.tokens import OptionTokens, Tokens, check_max_tokens
from fedward.client.models.vocabulary_loss import chunks
from fedward.client.records import Records
from fedward.client.tasks.language import Fit, LanguageTask, padded
from fedward.client.tasks.task import Labelled, Source
from fedward.errors import ConfigError, DataError
from fedward.measures import Outcomes

NO_OPTION = -1e9
"""Score in the place of an option that a record does not have; below the likelihood of any text."""

_MADE_UP_OPTIONS = 4


@dataclass(frozen=True, eq=False)
class Answers:
    """What is to be predicted of one record."""

    right: int  # place of the right option
    starts: tuple[int, ...]  # place in each option's text of the token before its first
    ids: tuple[NDArray[np.int64], ...]  # tokens of each option
    characters: tuple[int, ...]  # of each option


class OptionSource(Source):
    """Questions with options and a right one; those of which nobody tells it are left out, never guessed.

    ``asked`` gives what was asked and said before, ``options`` the options and the place of the right one.
    """

    def __init__(
        self,
        *needs: str,
        asked: Callable[[Item], Sequence[Turn]],
        options: Callable[[Item], tuple[Sequence[str], int] | None],
    ) -> None:
        super().__init__(*needs)
        self._asked, self._options = asked, options

    def labelled(self, corpus: Corpus, folder: Path, drops: Drops, *, every: bool = False) -> list[Labelled]:
        """See :meth:`Source.labelled`; the label is the place of the right option."""
        found = ((item, self._options(item)) for item in corpus.items(folder, drops))
        return [Labelled(item, options[1]) for item, options in found if options is not None and self._asked(item)]

    def texts(
        self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str], drops: Drops
    ) -> list[str]:
        """See :meth:`Source.texts`: what is asked, then every option."""
        return ["\n".join((*(turn.text for turn in self._asked(item)), *self._said(item))) for item in items]

    def examples(
        self, corpus: Corpus, folder: Path, languages: Counter[str], drops: Drops, *, every: bool = False
    ) -> list[Example]:
        """See :meth:`Source.examples`."""
        found = self.labelled(corpus, folder, drops, every=every)
        texts = self.texts(corpus, folder, [each.item for each in found], languages, drops)
        return [
            each.example(
                text,
                turns=tuple((turn.role, turn.text) for turn in self._asked(each.item)),
                options=self._said(each.item),
            )
            for each, text in zip(found, texts, strict=True)
        ]

    def _said(self, item: Item) -> tuple[str, ...]:
        found = self._options(item)
        return () if found is None else tuple(found[0])


class OptionTask(LanguageTask):
    """Base of tasks that score the options of a question."""

    @abstractmethod
    def write_option(self, writer: Writer, turns: Sequence[Turn], option: str) -> Written:
        """What was asked and one option as tokens; those of the option are scored, and stand at the end."""

    def write(self, writer: Writer, example: Example) -> Written:
        """See :meth:`LanguageTask.write`; with the right option."""
        return self._written(writer, example)[int(example.label)]

    def encode(
        self, files: ModelFiles, examples: Sequence[Example], *, max_tokens: int
    ) -> tuple[NDArray[np.int64], Tokens, NDArray[Any]]:
        """See :meth:`LocalTask.encode`.

        Targets are :class:`Answers` ``[N]``. A record of which one option does not fit is left out: options that are
        cut cannot be compared. Raises FW-DATA-034 (nothing fits).
        """
        check_max_tokens(files, max_tokens)
        writer = Writer(files)
        if writer.has_encoder:
            told = f"Options are compared by decoders alone, and models like {files.name!r} read the question apart."
            raise ConfigError(told, code="FW-MODEL-010")
        written = [self._written(writer, example) for example in examples]
        kept = np.array([n for n, row in enumerate(written) if max(map(len, row)) <= max_tokens], dtype=np.int64)
        if examples and not kept.size:
            told = f"Of none of the {len(examples)} records do all options fit in {max_tokens} tokens."
            raise DataError(told, code="FW-DATA-034")
        flat = padded([np.array(each.ids) for n in kept for each in written[n]], files.config().pad_id)
        counts = np.array([len(written[n]) for n in kept], np.int64)
        targets = np.empty(kept.size, object)
        targets[:] = [_answers(examples[n], written[n]) for n in kept]
        return kept, OptionTokens(flat.input_ids, flat.attention_mask, counts=counts), targets

    def fit(self, writer: Writer, example: Example, max_tokens: int) -> Fit:
        """See :meth:`LanguageTask.fit`; one option that does not fit is enough."""
        return "too long" if max(map(len, self._written(writer, example))) > max_tokens else "whole"

    def made_up(self, count: int, tokens: int) -> NDArray[Any]:
        """See :meth:`LocalTask.made_up`; the last quarter of a text is its option."""
        said = max(1, tokens // 4)
        one, options = np.zeros(said, np.int64), _MADE_UP_OPTIONS
        targets = np.empty(count, object)
        targets[:] = [Answers(0, (tokens - said - 1,) * options, (one,) * options, (said,) * options)] * count
        return targets

    def arranged(self, tokens: Tokens) -> Tokens:
        """See :meth:`LocalTask.arranged`; each text is every option of its record."""
        ids, mask = (np.repeat(a, _MADE_UP_OPTIONS, axis=0) for a in (tokens.input_ids, tokens.attention_mask))
        return OptionTokens(ids, mask, counts=np.full(len(tokens), _MADE_UP_OPTIONS, np.int64))

    def losses(self, model: AdapterModel, records: Records, rows: NDArray[np.int64]) -> Tensor:
        """See :meth:`LocalTask.losses`."""
        scores = _scores(model, records, rows, lambda hidden, ids: -model.token_losses(hidden, ids))
        right = torch.tensor([records.targets[row].right for row in rows], device=scores.device)
        return torch.nn.functional.cross_entropy(scores, right, reduction="none")

    def outcomes(self, model: AdapterModel, records: Records) -> Outcomes:
        """See :meth:`LocalTask.outcomes`: scores ``[N, options, 2]``, by sum and by character, summed in float64."""
        model.eval()
        most = max((len(each.ids) for each in records.targets), default=1)
        scores = np.full((len(records), most, 2), NO_OPTION)
        with torch.no_grad():
            for call in calls_on(model, records.inputs):
                rows = call.filled
                found = _scores(model, records, rows, lambda hidden, ids: _exact(model, hidden, ids)).cpu().numpy()
                for row, sums in zip(call.positions, found, strict=False):
                    characters = np.array(records.targets[row].characters)
                    sums = sums[: len(characters)]
                    scores[row, : len(characters)] = np.stack([sums, sums / characters], axis=1)
        right = np.array([each.right for each in records.targets], np.int64)
        sums = scores[:, :, 0]
        best = sums.max(axis=1, keepdims=True)
        norm = best[:, 0] + np.log(np.exp(sums - best).sum(axis=1))
        return Outcomes(records.units, right, scores, norm - sums[np.arange(len(right)), right])

    def canary(self, unit: str, text: str, label: Any) -> Example:
        """See :meth:`LocalTask.canary`; the second option says the words of the first backwards."""
        first, rest = text.split(maxsplit=1)
        options = (rest, " ".join(reversed(rest.split())))
        return Example(unit, "", text, 0, turns=(("user", first),), options=options)

    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """See :meth:`LocalTask.unlikely`."""
        sums = outcomes.scores[:, :, 0]
        return [int(place) for place in np.where(sums > NO_OPTION / 2, sums, np.inf).argmin(axis=1)]

    def details(self, outcomes: Outcomes) -> list[dict[str, Any]]:
        """See :meth:`LocalTask.details`; options are counted from 0."""
        found = []
        for right, scores in zip(outcomes.targets, outcomes.scores, strict=True):
            held = scores[scores[:, 0] > NO_OPTION / 2]
            sums = {"log_likelihoods": held[:, 0].tolist(), "by_character": held[:, 1].tolist()}
            found.append({"right": int(right), "chosen": int(held[:, 0].argmax()), **sums})
        return found

    def _written(self, writer: Writer, example: Example) -> list[Written]:
        turns = [Turn(role, text) for role, text in example.turns]
        return [self.write_option(writer, turns, option) for option in example.options]


def _answers(example: Example, written: Sequence[Written]) -> Answers:
    said = [sum(each.scored) for each in written]
    return Answers(
        right=int(example.label),
        starts=tuple(len(each) - count - 1 for each, count in zip(written, said, strict=True)),
        ids=tuple(np.array(each.ids[len(each) - count :], np.int64) for each, count in zip(written, said, strict=True)),
        characters=tuple(map(len, example.options)),
    )


def _scores(
    model: AdapterModel, records: Records, rows: NDArray[np.int64], likelihoods: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Summed log-likelihood of every option of each record, ``[b, options]``; minus infinity where there is none.

    ``likelihoods`` gives log p of token ids ``[M]`` at states ``[M, hidden]``.
    """
    inputs, answers = records.inputs, [records.targets[row] for row in rows]
    if not isinstance(inputs, OptionInputs):
        raise TypeError("these records have one text each")
    columns = []
    for place in range(max(len(each.ids) for each in answers)):
        hidden = inputs.option(model, rows, place)
        held = [(n, each) for n, each in enumerate(answers) if place < len(each.ids)]
        owner = np.concatenate([np.full(len(each.ids[place]), n) for n, each in held])
        places = np.concatenate([each.starts[place] + np.arange(len(each.ids[place])) for _, each in held])
        wanted = np.concatenate([each.ids[place] for _, each in held])
        of, at, ids = (torch.from_numpy(part).to(hidden.device) for part in (owner, places, wanted))
        found = likelihoods(hidden[of, at], ids)
        sums = torch.zeros(len(rows), dtype=found.dtype, device=found.device).index_add(0, of, found)
        absent = torch.tensor([place >= len(each.ids) for each in answers], device=found.device)
        columns.append(sums.masked_fill(absent, -torch.inf))
    return torch.stack(columns, dim=1)


def _exact(model: AdapterModel, hidden: Tensor, ids: Tensor) -> Tensor:
    """log p of token ids ``[M]`` in float64 over the model's own logits."""
    parts = []
    for states, targets in chunks(hidden, ids):
        logits = model.logits(states)[: len(targets)].double()
        parts.append(logits.gather(1, targets[:, None])[:, 0] - torch.logsumexp(logits, dim=1))
    return torch.cat(parts)
