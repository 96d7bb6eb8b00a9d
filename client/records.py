"""A hospital's encoded records: text as the model reads it, outcome and patient of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedward.client.data import Example
from fedward.client.data.text import check_represented
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.inputs import Inputs, prepare
from fedward.client.models.registry import ModelFiles
from fedward.client.models.tokens import load_tokenizer, tokenize, unrepresented

if TYPE_CHECKING:
    from fedward.client.tasks.task import LocalTask


@dataclass(frozen=True)
class Records:
    """Encoded examples of one population (training or evaluation patients).

    Attributes:
        inputs: the texts, in the form the model reads fastest; N of them.
        targets: what is to be predicted, ``[N]`` or ``[N, K]``, as the task encodes it.
        units: int64 ``[N]``, a running number per unit of privacy (a patient) from 0; carries no identity.
        names: the unit's identifier for each record, used on this machine only.
        order: int64 ``[N]``, position of each record in the examples it was encoded from.

    Records are sorted by length and units numbered in that order, so that the records of a micro-batch
    are of similar length: padding is most of the cost of short texts.
    """

    inputs: Inputs
    targets: NDArray[Any]
    units: NDArray[np.int64]
    names: tuple[str, ...]
    order: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.units)

    @classmethod
    def encode(
        cls, examples: Sequence[Example], task: LocalTask, files: ModelFiles, model: AdapterModel, *, max_tokens: int
    ) -> Records:
        """Tokenises ``examples`` and computes once what no training step changes.

        Raises:
            DataError: FW-DATA-021, the base model does not know the characters of a language of the texts; FW-DATA-091,
                a label outside the task's classes.
        """
        check_represented(unrepresented(load_tokenizer(files), [example.text for example in examples]))
        order = np.array(sorted(range(len(examples)), key=lambda i: len(examples[i].text)), dtype=np.int64)
        examples = [examples[i] for i in order]
        tokens = tokenize(files, [example.text for example in examples], max_tokens=max_tokens)
        number: dict[str, int] = {}
        units = [number.setdefault(example.patient_id, len(number)) for example in examples]
        return cls(
            prepare(model, tokens),
            task.targets(examples),
            np.array(units, dtype=np.int64),
            tuple(example.patient_id for example in examples),
            order,
        )

    @classmethod
    def pool(cls, parts: Sequence[Records]) -> Records:
        """The records of several hospitals as one population; only a simulation holds them all.

        Nothing is encoded again. Units of different parts stay different units. ``order`` gives positions
        in ``parts`` laid end to end.
        """
        inputs = type(parts[0].inputs).joined([part.inputs for part in parts])
        order = np.argsort(inputs.lengths, kind="stable")
        offsets = np.cumsum([0, *(int(part.units.max()) + 1 for part in parts[:-1])])
        apart = np.concatenate([part.units + offset for part, offset in zip(parts, offsets, strict=True)])
        number: dict[int, int] = {}
        units = [number.setdefault(int(unit), len(number)) for unit in apart[order]]
        names = [name for part in parts for name in part.names]
        return cls(
            inputs.chosen(order),
            np.concatenate([part.targets for part in parts])[order],
            np.array(units, dtype=np.int64),
            tuple(names[i] for i in order),
            order,
        )
