"""Predictions from one vector per text: a yes-or-no outcome, one class of several, several labels, or a number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedward.client.data.example import Example
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.inputs import calls_on
from fedward.client.records import Records
from fedward.client.tasks.task import LocalTask
from fedward.errors import DataError
from fedward.measures import Outcomes
from fedward.measures.measure import Floats

SMALLEST_PROBABILITY = 1e-12


class Prediction(LocalTask):
    """Base of tasks whose model gives ``head.outputs`` numbers per text."""

    def made_up(self, count: int, tokens: int) -> NDArray[Any]:
        """See :meth:`LocalTask.made_up`."""
        return (np.arange(count) % 2).astype(np.float32)

    def outcomes(self, model: AdapterModel, records: Records) -> Outcomes:
        """See :meth:`LocalTask.outcomes`."""
        outputs = logits(model, records)
        return Outcomes(records.units, records.targets, self.scores(outputs), self.losses_of(outputs, records.targets))

    def scores(self, outputs: Floats) -> Floats:
        """Predictions of logits ``[N]`` or ``[N, K]``."""
        return outputs

    def losses_of(self, outputs: Floats, targets: NDArray[Any]) -> Floats:
        """Losses float64 ``[N]`` of logits, as :meth:`losses` has them."""
        losses = self.loss(torch.from_numpy(outputs), torch.from_numpy(targets))
        return np.asarray(losses.double().numpy(), np.float64)

    def losses(self, model: AdapterModel, records: Records, rows: NDArray[np.int64]) -> Tensor:
        """See :meth:`LocalTask.losses`."""
        outputs = records.inputs.outputs(model, rows)
        return self.loss(outputs, torch.from_numpy(records.targets[rows]).to(outputs.device))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss ``[b]`` of logits ``[b]`` or ``[b, K]`` on targets of :meth:`targets`."""
        raise NotImplementedError

    def _refused(self, what: str, kind: str = "label") -> DataError:
        return DataError(f"A {kind} of the task {self.declaration.name!r} is {what}.", code="FW-DATA-091")


class Binary(Prediction):
    """A yes-or-no outcome: binary cross-entropy on one logit."""

    def targets(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """See :meth:`LocalTask.targets`; float32 ``[N]``, 0 or 1."""
        labels = np.array([example.label for example in examples], dtype=np.float32)
        if not np.isin(labels, (0, 1)).all():
            raise self._refused("neither 0 nor 1")
        return labels

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See :meth:`Prediction.loss`."""
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def scores(self, outputs: Floats) -> Floats:
        """Probabilities of logits."""
        return np.asarray(1.0 / (1.0 + np.exp(-outputs)), dtype=np.float64)

    def losses_of(self, outputs: Floats, targets: NDArray[Any]) -> Floats:
        """See :meth:`Prediction.losses_of`; from probabilities, which never give an infinite loss."""
        p = np.clip(self.scores(outputs), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        found = -np.where(targets > 0.5, np.log(p), np.log1p(-p))
        return np.asarray(found if found.ndim == 1 else found.mean(axis=1), np.float64)

    @property
    def counts_positives(self) -> bool:
        """See :meth:`LocalTask.counts_positives`."""
        return True

    def positives(self, targets: NDArray[Any]) -> int | None:
        """See :meth:`LocalTask.positives`."""
        return int(targets.sum()) if targets.ndim == 1 else None

    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """See :meth:`LocalTask.unlikely`."""
        return [int(score < 0.5) for score in outcomes.scores]


class Multilabel(Binary):
    """Several yes-or-no labels of one record: mean binary cross-entropy over them."""

    def targets(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """See :meth:`LocalTask.targets`; float32 ``[N, K]``. A label is the collection of the classes that are true."""
        classes = self.declaration.classes
        if not all(set(example.label) <= set(classes) for example in examples):
            raise self._refused("none of its classes")
        found = np.array([[name in example.label for name in classes] for example in examples], np.float32)
        return found.reshape(len(examples), len(classes))

    def made_up(self, count: int, tokens: int) -> NDArray[Any]:
        """See :meth:`LocalTask.made_up`."""
        classes = len(self.declaration.classes)
        return np.eye(classes, dtype=np.float32)[np.arange(count) % classes]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See :meth:`Prediction.loss`."""
        return super().loss(outputs, targets).mean(dim=1)

    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """See :meth:`LocalTask.unlikely`."""
        names = self.declaration.classes
        return [tuple(n for n, s in zip(names, row, strict=True) if s < 0.5) for row in outcomes.scores]


class Multiclass(Prediction):
    """One class of several: cross-entropy on one logit per class."""

    def targets(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        """See :meth:`LocalTask.targets`; int64 ``[N]``, the place of the class that the label names."""
        place = {name: k for k, name in enumerate(self.declaration.classes)}
        if any(example.label not in place for example in examples):
            raise self._refused("none of its classes")
        return np.array([place[str(example.label)] for example in examples], dtype=np.int64)

    def made_up(self, count: int, tokens: int) -> NDArray[Any]:
        """See :meth:`LocalTask.made_up`."""
        return np.arange(count) % len(self.declaration.classes)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See :meth:`Prediction.loss`."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def scores(self, outputs: Floats) -> Floats:
        """Probabilities by class ``[N, K]``."""
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)

    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """See :meth:`LocalTask.unlikely`."""
        return [self.declaration.classes[k] for k in outcomes.scores.argmin(axis=1)]


class Regression(Prediction):
    """A number: squared error on one output, which is scaled by the task so that typical targets are near 1."""

    def targets(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """See :meth:`LocalTask.targets`; float32 ``[N]``, finite."""
        values = np.array([example.label for example in examples], dtype=np.float32)
        if not np.isfinite(values).all():
            raise self._refused("not a finite number", "value")
        return values

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See :meth:`Prediction.loss`."""
        return (outputs - targets) ** 2

    def unlikely(self, outcomes: Outcomes) -> list[Any]:
        """See :meth:`LocalTask.unlikely`; two typical targets away, to the side that is farther from zero."""
        return [float(score + (2.0 if score >= 0 else -2.0)) for score in outcomes.scores]


def logits(model: AdapterModel, records: Records) -> Floats:
    """Outputs float64 ``[N]`` (one per text) or ``[N, K]`` of ``model`` as it is set now, without gradients."""
    model.eval()
    outputs, width = np.empty(len(records)), model.lora.head.outputs
    if width > 1:
        outputs = np.empty((len(records), width))
    with torch.no_grad():
        for call in calls_on(model, records.inputs):
            found = records.inputs.outputs(model, call.filled).double().cpu().numpy()
            outputs[call.positions] = found[: len(call.positions)]
    return outputs
