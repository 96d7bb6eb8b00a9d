"""A hospital's encoded records: text as the model reads it, outcome and patient of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedward.client.data import Example
from fedward.client.data.languages import check_represented
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.inputs import Inputs, prepare
from fedward.client.models.registry import ModelFiles
from fedward.client.models.tokens import load_tokenizer, tokenize, unrepresented

if TYPE_CHECKING:
    from fedward.client.tasks.task import LocalTask
from fedward.measures import Outcomes
from fedward.measures.measure import Floats
from fedward.privacy.noise import ReleaseSpec, noisy_release, suppress_small_cells
from fedward.privacy.stream import SecureStream
from fedward.run import LOSS, UNITS, Schedule


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


def training_statistics(
    outcomes: Outcomes, schedule: Schedule, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Sum of the units' clipped mean losses and number of training units, grid integers ``[2]``.

    Args:
        outcomes: of the training records.
        schedule: says whether and how much noise.
        honest: t - c, into which the noise is shared.
        stream: source of the noise.
    """
    losses, release = outcomes.per_unit(outcomes.losses[:, None]), schedule.training_release
    values = release.encode({LOSS: losses, UNITS: np.ones((len(losses), 1))})
    privacy = schedule.plan.privacy
    noise = privacy.release_noise_multiplier if privacy.private else None
    return _released(values, schedule, release, noise, honest, stream)


def evaluation_statistics(
    outcomes: Outcomes, schedule: Schedule, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Every sum that a measure of the task is read from, grid integers in the order of the release.

    A unit with several records adds their mean, so it moves each statistic by no more than the release's bound. Exact
    statistics of a private plan (only under ``unsafe_exact_evaluation``) lose the cells to which fewer than ten units
    contribute; noised ones keep them, because zeroing by a threshold would let one unit move a cell by ten.

    Args:
        outcomes: of the evaluation records.
        schedule: says which, and whether and how much noise; its task has released measures.
        honest: t - c, into which the noise is shared.
        stream: source of the noise.
    """
    release = schedule.evaluation_release
    if release is None:
        raise ValueError("the task releases no measure")
    rows: dict[str, Floats] = {}
    for measure in schedule.task.released:
        rows |= {name: outcomes.per_unit(cells) for name, cells in measure.contributions(outcomes).items()}
    values = release.encode(rows)
    if schedule.noises_evaluation:
        noise = schedule.plan.privacy.evaluation_noise_multiplier
        return _released(values, schedule, release, noise, honest, stream)
    if schedule.plan.privacy.private:
        units = np.concatenate([(rows[s.name] != 0).sum(axis=0) for s in release.statistics])
        values = suppress_small_cells(values, units)
    return _released(values, schedule, release, None, honest, stream)


def _released(
    values: NDArray[np.int64],
    schedule: Schedule,
    release: ReleaseSpec,
    noise_multiplier: float | None,
    honest: int,
    stream: SecureStream,
) -> NDArray[np.int64]:
    limit = schedule.saturation(release)
    values = np.clip(values, -limit, limit)
    if noise_multiplier is None:  # exact; a plan without its noise is refused below
        return values
    return noisy_release(
        values,
        l2_sensitivity_grid=release.l2_sensitivity_grid,
        noise_multiplier=noise_multiplier,
        honest=honest,
        stream=stream,
    )
