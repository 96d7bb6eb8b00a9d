"""Inputs of the model: token ids, or the cached output of the layers that never change.

With LoRA on the top layers only, everything below is a fixed function of the text. Computing it once per hospital
and run, instead of once per step, is the largest saving there is for a real encoder on a CPU.

Matrix libraries choose the order of their additions by the shapes of the matrices, so a record that is padded to the
longest of its batch, or stands in a larger batch, gets other rounding errors: 2e-6 of its gradient in float32, 6e-3 in
bfloat16. Whoever else was sampled would then move a record's clipped gradient, which no sensitivity accounts for. Here
a record's length alone says how wide and how high the call is that it is computed in. Rows that nobody fills repeat the
last record, and what comes of them is dropped. ``docs/adr/0012-same-numbers-in-any-company.md`` has what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.tokens import OptionTokens, Tokens
from fedward.privacy.dpsgd.engine import Call

SHORTEST = 16
MOST_ROWS, FEWEST_ROWS = 8, 4
"""Rows of a call; matrix-vector products, in a head of one output, take other paths below four."""
SMALL = 2**15
"""Numbers of a hidden state, tokens times width of the model, up to which a call has the most rows."""


class Inputs(Protocol):
    """The N records of one hospital in the form that the model reads fastest."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each record, int64 ``[N]``."""

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Tokens to which the texts of each record are padded, int64 ``[N, texts]``; they depend on it alone."""

    @property
    def cut(self) -> int:
        """How many texts were cut at the text length."""

    def outputs(self, model: AdapterModel, records: NDArray[np.int64]) -> Tensor:
        """Outputs of the model's head on the records with indices int64 ``[B]``, padded to the widest of them.

        A ``sequence`` head gives ``[B]`` or ``[B, outputs]``, others ``[B, T, ...]`` for T tokens, where a text's own
        tokens begin at the left or end at the right, as the model's family pads.
        """

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The records of several parts, part after part."""

    def chosen(self, records: NDArray[np.int64]) -> Self:
        """The records with indices int64 ``[M]``, in that order."""


@dataclass(frozen=True)
class TokenInputs:
    """Token ids; every layer is computed."""

    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """See :class:`Inputs`."""
        return self.tokens.lengths

    @property
    def shapes(self) -> NDArray[np.int64]:
        """See :class:`Inputs`."""
        return padded_width(self.lengths)[:, None]

    @property
    def cut(self) -> int:
        """See :class:`Inputs`."""
        return self.tokens.truncated

    def outputs(self, model: AdapterModel, records: NDArray[np.int64], *, width: int | None = None) -> Tensor:
        """See :class:`Inputs`; ``width`` stands for that of the records."""
        return model(*_batch(self.tokens, records, model, width))

    @classmethod
    def joined(cls, parts: Sequence[TokenInputs]) -> TokenInputs:
        """See :class:`Inputs`; padding ids are 0, and masked."""
        tokens = [part.tokens for part in parts]
        width = max(each.input_ids.shape[1] for each in tokens)

        def rows(arrays: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
            return np.concatenate([np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays])

        ids, mask = rows(each.input_ids for each in tokens), rows(each.attention_mask for each in tokens)
        return cls(Tokens(ids, mask, sum(each.truncated for each in tokens)))

    def chosen(self, records: NDArray[np.int64]) -> TokenInputs:
        """See :class:`Inputs`."""
        tokens = self.tokens
        return TokenInputs(Tokens(tokens.input_ids[records], tokens.attention_mask[records], tokens.truncated))


@dataclass(frozen=True)
class PrefixInputs:
    """Output of the frozen lower layers, without padding."""

    layer: int  # first layer that is still to be computed
    hidden: Tensor  # float32 [total tokens, d], text after text
    starts: NDArray[np.int64]  # [N], where each text begins
    lengths: NDArray[np.int64]  # [N], its tokens
    cut: int = 0  # see Inputs

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shapes(self) -> NDArray[np.int64]:
        """See :class:`Inputs`."""
        return padded_width(self.lengths)[:, None]

    def outputs(self, model: AdapterModel, records: NDArray[np.int64], *, width: int | None = None) -> Tensor:
        """See :class:`Inputs`; ``width`` stands for that of the records."""
        return model.forward_from(self.layer, *self.padded(model, records, width))

    def padded(
        self, model: AdapterModel, records: NDArray[np.int64], width: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """What is kept of the records, padded, ``[B, T, d]``, and its 0/1 mask, int64 ``[B, T]``."""
        lengths = self.lengths[records]
        positions = _places(lengths, model, width)
        mask = (positions >= 0) & (positions < lengths[:, None])
        rows = np.where(mask, self.starts[records][:, None] + positions, 0)
        inside = torch.from_numpy(mask).to(self.hidden.device)
        hidden = self.hidden[torch.from_numpy(rows).to(self.hidden.device)].masked_fill(~inside[..., None], 0.0)
        return hidden, inside.long()

    @classmethod
    def joined(cls, parts: Sequence[PrefixInputs]) -> PrefixInputs:
        """See :class:`Inputs`."""
        offsets = np.cumsum([0, *(len(part.hidden) for part in parts[:-1])])
        starts = [part.starts + offset for part, offset in zip(parts, offsets, strict=True)]
        hidden, lengths = torch.cat([part.hidden for part in parts]), [part.lengths for part in parts]
        cut = sum(part.cut for part in parts)
        return cls(parts[0].layer, hidden, np.concatenate(starts), np.concatenate(lengths), cut)

    def chosen(self, records: NDArray[np.int64]) -> PrefixInputs:
        """See :class:`Inputs`; the cached output is shared, not copied."""
        return PrefixInputs(self.layer, self.hidden, self.starts[records], self.lengths[records], self.cut)


@dataclass(frozen=True)
class PairInputs:
    """What a decoder reads, token by token, and what an encoder has made of another text of the same record.

    No layer of the encoder is adapted, so it reads every text once.
    """

    tokens: TokenInputs
    source: PrefixInputs  # the encoder's output

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """See :class:`Inputs`: tokens of both texts."""
        return self.tokens.lengths + self.source.lengths

    @property
    def shapes(self) -> NDArray[np.int64]:
        """See :class:`Inputs`."""
        return np.concatenate([self.tokens.shapes, self.source.shapes], axis=1)

    @property
    def cut(self) -> int:
        """See :class:`Inputs`."""
        return self.tokens.cut + self.source.cut

    def outputs(self, model: AdapterModel, records: NDArray[np.int64]) -> Tensor:
        """See :class:`Inputs`."""
        return model.decode(*_batch(self.tokens.tokens, records, model), *self.source.padded(model, records))

    @classmethod
    def joined(cls, parts: Sequence[PairInputs]) -> PairInputs:
        """See :class:`Inputs`."""
        tokens, sources = [part.tokens for part in parts], [part.source for part in parts]
        return cls(TokenInputs.joined(tokens), PrefixInputs.joined(sources))

    def chosen(self, records: NDArray[np.int64]) -> PairInputs:
        """See :class:`Inputs`; the encoder's output is shared, not copied."""
        return PairInputs(self.tokens.chosen(records), self.source.chosen(records))


@dataclass(frozen=True)
class OptionInputs:
    """Records with several texts each, such as a question with each of its options; all padded as its longest is."""

    texts: TokenInputs | PrefixInputs  # of all records, one after another
    first: NDArray[np.int64]  # [N], the first text of each record
    counts: NDArray[np.int64]  # [N], how many texts it has

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """See :class:`Inputs`; of each record's longest text."""
        lengths = self.texts.lengths
        return np.array([lengths[a : a + n].max() for a, n in zip(self.first, self.counts, strict=True)], np.int64)

    @property
    def shapes(self) -> NDArray[np.int64]:
        """See :class:`Inputs`."""
        return padded_width(self.lengths)[:, None]

    @property
    def cut(self) -> int:
        """See :class:`Inputs`."""
        return self.texts.cut

    def outputs(self, model: AdapterModel, records: NDArray[np.int64]) -> Tensor:
        """See :class:`Inputs`; on the first text of each record."""
        return self.option(model, records, 0)

    def option(self, model: AdapterModel, records: NDArray[np.int64], place: int) -> Tensor:
        """The same on text ``place`` of each record, row by record; one with fewer texts shows its last again."""
        rows, width = self.first[records] + np.minimum(place, self.counts[records] - 1), int(self.shapes[records].max())
        return self.texts.outputs(model, rows, width=width)

    @classmethod
    def joined(cls, parts: Sequence[OptionInputs]) -> OptionInputs:
        """See :class:`Inputs`."""
        offsets = np.cumsum([0, *(len(part.texts) for part in parts[:-1])])
        first = [part.first + offset for part, offset in zip(parts, offsets, strict=True)]
        texts: Any = [part.texts for part in parts]  # all of the same form
        counts = np.concatenate([part.counts for part in parts])
        return cls(type(texts[0]).joined(texts), np.concatenate(first), counts)

    def chosen(self, records: NDArray[np.int64]) -> OptionInputs:
        """See :class:`Inputs`; the texts are shared, not copied."""
        return OptionInputs(self.texts, self.first[records], self.counts[records])


def padded_width(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens to which texts of so many are padded: 16, 24, 32, 48, 64, 96 and so on, the same shape as ``lengths``."""
    needed = np.maximum(lengths, SHORTEST)
    power = 2 ** np.ceil(np.log2(needed)).astype(np.int64)
    between = power // 4 * 3
    return np.where(needed <= between, between, power).astype(np.int64)


def rows_of(width: int, hidden: int) -> int:
    """Rows of a call over ``width`` tokens of a model whose hidden states are ``hidden`` wide."""
    return MOST_ROWS if width * hidden <= SMALL else FEWEST_ROWS


def calls_of(shapes: NDArray[np.int64], hidden: int, *, most: int | None = None) -> list[Call]:
    """Calls for records whose texts are padded to the widths ``shapes`` int64 ``[b, texts]``, narrow ones first.

    ``most`` lowers the rows of every call where memory asks for it, or 1 where rows are not alike on this machine.
    """
    calls: list[Call] = []
    if not len(shapes):
        return calls
    kinds, of = np.unique(shapes, axis=0, return_inverse=True)
    for kind, shape in enumerate(kinds):
        rows = min(rows_of(int(shape.sum()), hidden), most or MOST_ROWS)
        found = np.flatnonzero(of.ravel() == kind).astype(np.int64)
        calls += [Call(found[start : start + rows], rows) for start in range(0, len(found), rows)]
    return calls


def calls_on(model: AdapterModel, inputs: Inputs, records: NDArray[np.int64] | None = None) -> list[Call]:
    """The calls that compute the records with indices int64 ``[b]``, or all of them, each the same in any company."""
    shapes = inputs.shapes if records is None else inputs.shapes[records]
    return calls_of(shapes, model.config.hidden, most=model.most_rows)


def prepare(model: AdapterModel, tokens: Tokens) -> Inputs:
    """The fastest form of ``tokens`` for ``model``: cached when lower layers are frozen and can be run alone.

    Where a model has an encoder and ``tokens`` have no source of their own, the encoder reads them too.
    """
    if isinstance(tokens, OptionTokens):
        flat = Tokens(tokens.input_ids, tokens.attention_mask, tokens.truncated)
        texts: Any = prepare(model, flat)  # a model with an encoder compares no options
        return OptionInputs(texts, np.cumsum(tokens.counts) - tokens.counts, tokens.counts)
    if model.config.family.encoder:
        layers = model.config.layers
        return PairInputs(TokenInputs(tokens), _kept(model, tokens.source or tokens, layers, model.encode))
    steps = model.config.family.layer_by_layer is not None
    return cache_frozen_prefix(model, tokens) if steps and model.lora.first_layer(model.config) else TokenInputs(tokens)


def cache_frozen_prefix(model: AdapterModel, tokens: Tokens) -> PrefixInputs:
    """Runs the layers below the lowest adapted one over all texts, once.

    Memory: hidden x number of real tokens, in the precision of the base model.
    """
    layer = model.lora.first_layer(model.config)
    return _kept(model, tokens, layer, lambda ids, mask: model.run_layers(0, layer, model.embed(ids), mask))


def _kept(model: AdapterModel, tokens: Tokens, layer: int, compute: Callable[[Tensor, Tensor], Tensor]) -> PrefixInputs:
    """What ``compute`` makes of ids and mask ``[B, T]`` of all texts, ``[B, T, d]``, as input of ``layer``."""
    lengths = tokens.lengths
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    hidden: Tensor | None = None
    with torch.no_grad():
        for call in _calls_alike(model, tokens, compute):
            _, mask = batch = _batch(tokens, call.filled, model)
            output = compute(*batch)
            if hidden is None:
                hidden = output.new_empty((int(lengths.sum()), model.config.hidden))
            for row, record in enumerate(call.positions):
                hidden[starts[record] : starts[record] + lengths[record]] = output[row, mask[row].bool()]
    return PrefixInputs(layer, torch.empty(0) if hidden is None else hidden, starts, lengths, tokens.truncated)


def _calls_alike(model: AdapterModel, tokens: Tokens, compute: Callable[[Tensor, Tensor], Tensor]) -> list[Call]:
    """Calls in which a text has the same bits as alone, tried on one of each shape; else one text a call."""
    shapes, hidden = padded_width(tokens.lengths)[:, None], model.config.hidden
    calls = calls_of(shapes, hidden, most=model.most_rows)
    tried: dict[int, Call] = {}
    for call in calls:
        if len(call.positions) > 1:
            tried.setdefault(int(shapes[call.positions[0], 0]), call)
    for call in tried.values():
        last = np.full(call.rows, call.positions[-1])
        together, alone = (
            compute(*_batch(tokens, rows, model))[len(call.positions) - 1] for rows in (call.filled, last)
        )
        if not torch.equal(together, alone):
            return calls_of(shapes, hidden, most=1)
    return calls


def _batch(
    tokens: Tokens, records: NDArray[np.int64], model: AdapterModel, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Ids and 0/1 mask of texts, int64 ``[B, T]``; they are kept padded on the right."""
    lengths = tokens.lengths[records]
    places = _places(lengths, model, width)
    inside = (places >= 0) & (places < lengths[:, None])
    taken = np.take_along_axis(tokens.input_ids[records], np.where(inside, places, 0), axis=1)
    ids = np.where(inside, taken, model.config.pad_id)
    device = model.device
    return torch.from_numpy(ids).to(device), torch.from_numpy(inside.astype(np.int64)).to(device)


def _places(lengths: NDArray[np.int64], model: AdapterModel, width: int | None = None) -> NDArray[np.int64]:
    """Which token of its text stands where in a batch, int64 ``[B, T]``; where a text has no such token is padding."""
    if width is None:
        width = int(padded_width(lengths).max())
    width = min(width, model.config.max_tokens)  # a model has no positions beyond
    places = np.broadcast_to(np.arange(width), (len(lengths), width))
    if model.config.family.padding == "left":
        places = places - (width - lengths)[:, None]
    return places
