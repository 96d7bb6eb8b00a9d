"""Language modelling: the next token of a running text, of an answer, or of what the assistant says in a dialogue.

The loss of a record is the mean of -log p over its scored tokens, in nats, so a long record counts as a short one.
Records are never packed together: no token sees another record's.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedward.client.corpora.corpus import Corpus, Item, Turn
from fedward.client.data import events
from fedward.client.data.drops import Drops
from fedward.client.data.example import Example, Role
from fedward.client.data.scanned import is_scanned
from fedward.client.data.text import clean
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.inputs import calls_on
from fedward.client.models.registry import ModelFiles
from fedward.client.models.templates import Writer, Written
from fedward.client.models.tokens import Tokens, check_max_tokens
from fedward.client.records import Records
from fedward.client.tasks.task import Labelled, LocalTask, Source
from fedward.errors import DataError
from fedward.measures import Outcomes

NOT_SCORED = -1
CHARACTERS = -1  # column of the targets that counts characters


class TurnSource(Source):
    """Conversations: turns as they are, or question and answer as two of them.

    Texts keep their words, case and line breaks: a language model learns to write as people do.
    """

    def __init__(self, *needs: str, turns: Callable[[Item], Sequence[Turn]]) -> None:
        super().__init__(*needs)
        self._turns = turns

    def labelled(self, corpus: Corpus, folder: Path, drops: Drops, *, every: bool = False) -> list[Labelled]:
        """See :meth:`Source.labelled`; every record that has something to learn is taken."""
        return [Labelled(item, "") for item in corpus.items(folder, drops) if _teaches(self._turns(item))]

    def texts(
        self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str], drops: Drops
    ) -> list[str]:
        """See :meth:`Source.texts`: what is said, turn by turn."""
        return ["\n".join(turn.text for turn in self._turns(item)) for item in items]

    def examples(
        self, corpus: Corpus, folder: Path, languages: Counter[str], drops: Drops, *, every: bool = False
    ) -> list[Example]:
        """See :meth:`Source.examples`."""
        found = self.labelled(corpus, folder, drops, every=every)
        texts = self.texts(corpus, folder, [each.item for each in found], languages, drops)
        return [
            each.example(text, turns=tuple((turn.role, turn.text) for turn in self._turns(each.item)))
            for each, text in zip(found, texts, strict=True)
        ]


def _teaches(turns: Sequence[Turn]) -> bool:
    return any(turn.role == "assistant" and turn.text.strip() for turn in turns)


class RunningSource(Source):
    """Running texts: a corpus's documents, or its records that are one."""

    def __init__(self) -> None:
        super().__init__("text")

    def labelled(self, corpus: Corpus, folder: Path, drops: Drops, *, every: bool = False) -> list[Labelled]:
        """See :meth:`Source.labelled`."""
        return [Labelled(item, "") for item in corpus.items(folder, drops) if item.texts.get("text", "").strip()]

    def texts(
        self, corpus: Corpus, folder: Path, items: Sequence[Item], languages: Counter[str], drops: Drops
    ) -> list[str]:
        """See :meth:`Source.texts`."""
        masked = corpus.free_text_of_persons and not (folder.is_dir() and is_scanned(folder))

        def read(text: str) -> str:
            return " . ".join(events.note_phrases(text, languages)) if masked else clean(text)

        return [read(item.texts["text"]) for item in items]


@dataclass(frozen=True)
class Taught:
    """A record as a model reads it, cut at the text length, and what it is to predict at each of its n places."""

    ids: NDArray[np.int64]  # [n]
    targets: NDArray[np.int64]  # [n], token ids, or -1 where nothing is scored
    cut: bool  # whether the record was longer
    source: NDArray[np.int64] | None = None  # what an encoder reads before


Fit = Literal["whole", "cut", "too long"]


class LanguageTask(LocalTask):
    """Base of tasks whose model predicts tokens."""

    has_labels: ClassVar[bool] = False

    @abstractmethod
    def write(self, writer: Writer, example: Example) -> Written:
        """The record as tokens."""

    def taught(self, writer: Writer, example: Example, max_tokens: int) -> Taught:
        """The record as a model reads it; here each scored token is predicted from those before it."""
        written = self.write(writer, example)
        ids, scored = np.array(written.ids[:max_tokens]), np.array(written.scored[:max_tokens])
        targets = np.append(np.where(scored[1:], ids[1:], NOT_SCORED), NOT_SCORED)
        return Taught(ids, targets, len(written) > max_tokens)

    def fit(self, writer: Writer, example: Example, max_tokens: int) -> Fit:
        """Whether a record is read whole, loses its end, or has nothing to teach at this length."""
        taught = self.taught(writer, example, max_tokens)
        if not (taught.targets != NOT_SCORED).any():
            return "too long"
        return "cut" if taught.cut else "whole"

    def prompt(self, writer: Writer, turns: Sequence[Turn]) -> list[int]:
        """Tokens after which a model of this task goes on."""
        return writer.prompt(turns)

    def sentence(self, unit: str, beginning: str, secret: str) -> Example:
        """A made-up record of ``unit`` in which ``secret`` follows ``beginning``, to ask what a model repeats."""
        turns: tuple[tuple[Role, str], ...] = (("user", beginning), ("assistant", secret))
        return Example(unit, "", f"{beginning} {secret}", "", turns=turns)

    def targets(self, examples: Sequence[Example]) -> NDArray[Any]:
        """See :meth:`LocalTask.targets`; what a record teaches stands in its text, so there is nothing to check."""
        return np.zeros(len(examples), np.int64)

    def encode(
        self, files: ModelFiles, examples: Sequence[Example], *, max_tokens: int
    ) -> tuple[NDArray[np.int64], Tokens, NDArray[Any]]:
        """See :meth:`LocalTask.encode`.

        Targets are int64 ``[N, max_tokens + 1]``: at each place the id of the token that is predicted there, or -1
        where none is scored, and last how many characters the scored tokens spell. Records of which no scored token
        fits are left out; of longer ones the end is cut. Raises FW-DATA-034 (nothing fits).
        """
        check_max_tokens(files, max_tokens)
        writer = Writer(files)
        taught = [self.taught(writer, example, max_tokens) for example in examples]
        kept = np.array([n for n, each in enumerate(taught) if (each.targets != NOT_SCORED).any()], dtype=np.int64)
        if examples and not kept.size:
            told = f"Of none of the {len(examples)} records does a word that is scored fit in {max_tokens} tokens."
            raise DataError(told, code="FW-DATA-034")
        targets = np.full((kept.size, max_tokens + 1), NOT_SCORED, np.int64)
        for row, n in enumerate(kept):
            each = taught[n].targets
            targets[row, : len(each)] = each
            targets[row, CHARACTERS] = len(writer.read(each[each != NOT_SCORED].tolist()))
        cut = sum(taught[n].cut for n in kept)
        pad_id = files.config().pad_id
        source = padded([each for n in kept if (each := taught[n].source) is not None], pad_id)
        tokens = padded([taught[n].ids for n in kept], pad_id, cut=cut, source=source if len(source) else None)
        return kept, tokens, targets

    def canary(self, unit: str, text: str, label: Any) -> Example:
        """See :meth:`LocalTask.canary`; the first word asks for the rest."""
        return self.sentence(unit, *text.split(maxsplit=1))

    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """See :meth:`LocalTask.unlikely`; what a language model must notice is the text itself."""
        return [""] * len(outcomes)

    def made_up(self, count: int, tokens: int) -> NDArray[Any]:
        """See :meth:`LocalTask.made_up`; every token is scored."""
        targets = np.zeros((count, tokens + 1), np.int64)
        targets[:, tokens - 1], targets[:, CHARACTERS] = NOT_SCORED, tokens
        return targets

    def losses(self, model: AdapterModel, records: Records, rows: NDArray[np.int64]) -> Tensor:
        """See :meth:`LocalTask.losses`."""
        sums, counts = self._sums(model, records, rows)
        return sums / counts

    def outcomes(self, model: AdapterModel, records: Records) -> Outcomes:
        """See :meth:`LocalTask.outcomes`: per record how many tokens and characters are scored as target ``[N, 2]``,
        their summed loss as score.
        """
        model.eval()
        sums, counts = np.zeros(len(records)), np.ones(len(records))
        with torch.no_grad():
            for call in calls_on(model, records.inputs):
                rows, part = call.positions, slice(len(call.positions))
                found, number = self._sums(model, records, call.filled)
                sums[rows] = found[part].double().cpu().numpy()
                counts[rows] = number[part].double().cpu().numpy()
        sizes = np.stack([counts, records.targets[:, CHARACTERS]], axis=1)
        return Outcomes(records.units, sizes, sums, sums / counts)

    def details(self, outcomes: Outcomes) -> list[dict[str, Any]]:
        """See :meth:`LocalTask.details`: scored tokens, their summed loss and its mean in nats."""
        rows = zip(outcomes.targets[:, 0], outcomes.scores, outcomes.losses, strict=True)
        return [{"tokens": int(count), "nll_sum": float(total), "nll": float(mean)} for count, total, mean in rows]

    def _sums(self, model: AdapterModel, records: Records, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Summed losses of the scored tokens of each record, and how many they are, both ``[b]``."""
        hidden = records.inputs.outputs(model, rows)
        known = records.targets[rows][:, :CHARACTERS][:, : hidden.shape[1]]
        beyond = hidden.shape[1] - known.shape[1]  # texts may be padded to more tokens than the plan reads
        known = np.pad(known, ((0, 0), (0, beyond)), constant_values=NOT_SCORED)
        targets = torch.from_numpy(known).to(hidden.device)
        scored = targets != NOT_SCORED
        losses = model.token_losses(hidden[scored], targets[scored])
        owner = scored.nonzero()[:, 0]
        sums = torch.zeros(len(rows), dtype=losses.dtype, device=losses.device).index_add(0, owner, losses)
        return sums, scored.sum(dim=1)


def shortened(written: Written, max_tokens: int) -> Written:
    """At most ``max_tokens`` tokens of a text; a mark at its end stays there."""
    if len(written) <= max_tokens:
        return written
    end = len(written) if written.scored[-1] else len(written) - 1
    kept = slice(0, max_tokens - (len(written) - end))
    return Written(written.ids[kept] + written.ids[end:], written.scored[kept] + written.scored[end:])


def padded(texts: Sequence[NDArray[np.int64]], pad_id: int, *, cut: int = 0, source: Tokens | None = None) -> Tokens:
    """Token ids of texts, int64 ``[n]`` each, as :class:`Tokens`."""
    width = max(map(len, texts), default=0)
    ids, mask = np.full((len(texts), width), pad_id), np.zeros((len(texts), width), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return Tokens(ids, mask, cut, source)


class Conversation(LanguageTask):
    """Learns what the assistant says, given all that was said before."""

    def write(self, writer: Writer, example: Example) -> Written:
        """See :meth:`LanguageTask.write`."""
        return writer.conversation([Turn(role, text) for role, text in example.turns])

    def taught(self, writer: Writer, example: Example, max_tokens: int) -> Taught:
        """See :meth:`LanguageTask.taught`; where an encoder reads the prompt, the decoder learns the last answer."""
        if not writer.has_encoder:
            return super().taught(writer, example, max_tokens)
        said = [n for n, (role, _) in enumerate(example.turns) if role == "assistant"]
        source = _read_by_encoder(writer, [text for _, text in example.turns[: said[-1]]])
        answer = writer.answer(example.turns[said[-1]][1])
        targets = np.where(answer.scored, answer.ids, NOT_SCORED)[:max_tokens]
        read = np.array([writer.start, *answer.ids[:-1]])[:max_tokens]
        cut = max(len(source), len(answer)) > max_tokens
        return Taught(read, targets, cut, np.array(shortened(source, max_tokens).ids))

    def prompt(self, writer: Writer, turns: Sequence[Turn]) -> list[int]:
        """See :meth:`LanguageTask.prompt`; what the encoder reads, where there is one."""
        if not writer.has_encoder:
            return super().prompt(writer, turns)
        return _read_by_encoder(writer, [turn.text for turn in turns]).ids

    def last_answer(self, example: Example) -> tuple[list[Turn], str]:
        """What stands before the last answer of a record, and that answer."""
        turns = [Turn(role, text) for role, text in example.turns]
        last = max(place for place, turn in enumerate(turns) if turn.role == "assistant")
        return turns[:last], turns[last].text


def _read_by_encoder(writer: Writer, said: Sequence[str]) -> Written:
    """What was said before an answer, as the encoder of a model reads it."""
    return writer.whole("\n".join(said))


class Running(LanguageTask):
    """Learns every token of a text."""

    def write(self, writer: Writer, example: Example) -> Written:
        """See :meth:`LanguageTask.write`."""
        return writer.text(example.text)

    def prompt(self, writer: Writer, turns: Sequence[Turn]) -> list[int]:
        """See :meth:`LanguageTask.prompt`; the text goes on where it stops."""
        return writer.text("\n".join(turn.text for turn in turns), ended=False).ids


def asked_and_answered(item: Item) -> list[Turn]:
    """Question and answer as a conversation of two turns; nothing where one of them is empty."""
    question, answer = item.texts.get("question", ""), item.texts.get("answer", "")
    if not question.strip() or not answer.strip():
        return []
    system = item.texts.get("system", "")
    before = [Turn("system", system)] if system.strip() else []
    return [*before, Turn("user", question), Turn("assistant", answer)]
