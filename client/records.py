"""A hospital's encoded records, and the statistics of them that leave it besides the delta.

The statistics are segments of the masked vector: grid integers, what each unit adds bounded. In a private run a share
of discrete Gaussian noise is added before masking, and the ledger is charged for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedward.client.data import Example
from fedward.client.data.text import check_represented
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.inputs import Inputs, TokenInputs, prepare
from fedward.client.models.registry import ModelFiles
from fedward.client.models.tokens import Tokens, load_tokenizer, unrepresented
from fedward.measures import Outcomes
from fedward.measures.measure import Floats
from fedward.privacy.noise import ReleaseSpec, SecureStream, noisy_release, suppress_small_cells
from fedward.run import LOSS, UNITS, Schedule

if TYPE_CHECKING:
    from fedward.client.tasks.task import LocalTask


@dataclass(frozen=True, repr=False)
class Records:
    """Encoded examples of one population (training or evaluation patients), N of them.

    Records are sorted by length and units numbered in that order, so that the records of a micro-batch are of similar
    length: padding is most of the cost of short texts.
    """

    inputs: Inputs  # the texts, in the form the model reads fastest
    targets: NDArray[Any]  # what is to be predicted, [N] or [N, K], as the task encodes it
    units: NDArray[np.int64]  # [N], a running number per unit of privacy (a patient) from 0; carries no identity
    names: tuple[str, ...]  # the unit's identifier for each record, used on this machine only
    order: NDArray[np.int64]  # [N], position of each record in the examples it was encoded from
    left_out: int = 0  # examples that are too long to teach anything

    def __len__(self) -> int:
        return len(self.units)

    @classmethod
    def encode(
        cls, examples: Sequence[Example], task: LocalTask, files: ModelFiles, model: AdapterModel, *, max_tokens: int
    ) -> Records:
        """Tokenises ``examples`` and computes once what no training step changes.

        Raises DataError FW-DATA-021 (the base model does not know the characters of a language of the texts),
        FW-DATA-091 (a label outside the task's classes).
        """
        check_represented(unrepresented(load_tokenizer(files), [example.text for example in examples]))
        order = np.array(sorted(range(len(examples)), key=lambda i: len(examples[i].text)), dtype=np.int64)
        kept, tokens, targets = task.encode(files, [examples[i] for i in order], max_tokens=max_tokens)
        order = order[kept]
        names = tuple(examples[i].patient_id for i in order)
        return cls(prepare(model, tokens), targets, _numbered(names), names, order, len(examples) - len(kept))

    @classmethod
    def unread(cls, examples: Sequence[Example], task: LocalTask) -> Records:
        """``examples`` without their texts, for a plan that trains nothing; no model reads them.

        Raises DataError FW-DATA-091 (a label outside the task's classes).
        """
        names, none = tuple(example.patient_id for example in examples), np.zeros((len(examples), 0), np.int64)
        inputs, order = TokenInputs(Tokens(none, none)), np.arange(len(examples), dtype=np.int64)
        return cls(inputs, task.targets(examples), _numbered(names), names, order)

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
        names = [name for part in parts for name in part.names]
        targets = np.concatenate([part.targets for part in parts])[order]
        units, left_out = _numbered(apart[order]), sum(part.left_out for part in parts)
        return cls(inputs.chosen(order), targets, units, tuple(names[i] for i in order), order, left_out)


def _numbered(units: Iterable[Hashable]) -> NDArray[np.int64]:
    """A running number per unit, from 0 in the order in which they are met."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(unit, len(number)) for unit in units], dtype=np.int64)


def training_statistics(
    outcomes: Outcomes, schedule: Schedule, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """Sum of the units' clipped mean losses and number of training units, grid integers ``[2]``.

    ``outcomes`` are of the training records; the noise from ``stream`` is all of it or, where the plan lets hospitals
    share it, one of ``honest`` = t - c shares.
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
    ``outcomes`` are of the evaluation records; the noise is as for :func:`training_statistics`.
    """
    release = schedule.evaluation_release
    if release is None:
        raise ValueError("the task releases no measure")
    rows: dict[str, Floats] = {}
    for measure in schedule.task.released:
        rows |= {name: outcomes.per_unit(cells) for name, cells in measure.contributions(outcomes).items()}
    values, noise = release.encode(rows), None
    if schedule.noises_evaluation:
        noise = schedule.plan.privacy.evaluation_noise_multiplier
    elif schedule.plan.privacy.private:
        values = suppress_small_cells(values, np.concatenate([(rows[s.name] != 0).sum(0) for s in release.statistics]))
    return _released(values, schedule, release, noise, honest, stream)


def survey_statistics(
    rows: Mapping[str, Floats], schedule: Schedule, *, honest: int, stream: SecureStream
) -> NDArray[np.int64]:
    """How many units there are and in which cells of a plan that trains nothing; always noised.

    ``rows`` are :func:`fedward.client.survey.rows_of`; the noise is as for :func:`training_statistics`.
    """
    release, noise = schedule.survey_release, schedule.counts.noise_multiplier
    return _released(release.encode(rows), schedule, release, noise, honest, stream)


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
        honest=schedule.statistics_shares(honest),
        stream=stream,
    )
