"""One step per round: a hospital's clipped gradient sum and its noise share, ready for the secure sum.

Under ``secure-grad`` a hospital takes no step of its own. It samples patients once, clips each one's gradient, adds
them up as integers and adds its share of the noise. The server's optimizer moves the adapter by the sum of all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.models.adapter_model import AdapterModel, layout_of, set_vector, trainable
from fedward.client.records import Records
from fedward.client.tasks.task import LocalTask
from fedward.privacy.dpsgd import DPParameters, PrivateEngine, UnitSampler
from fedward.privacy.dpsgd.clipping import planned_clipping
from fedward.privacy.dpsgd.engine import Backend, row_independence_self_test, sampler_self_test
from fedward.privacy.noise import SecureStream
from fedward.run import Run


class GradientSummer:
    """Sums one hospital's clipped patient gradients, once per round, under the plan's constants.

    Args:
        model: its trainable weights are overwritten by each round's adapter.
        records: training patients.
        run: the resolved plan: clip, sampling rate and noise; nothing is taken from the data.
        task: the loss of each record.
        stream: noise shares and sampling; from the operating system except in marked non-private runs.
        microbatch: records per forward pass; speed and memory only.
        backend: how per-record gradients are computed; speed only.
    """

    def __init__(
        self,
        model: AdapterModel,
        records: Records,
        run: Run,
        task: LocalTask,
        stream: SecureStream,
        *,
        microbatch: int | None = None,
        backend: Backend = "fast",
    ) -> None:
        privacy, parameters = run.plan.privacy, trainable(model)
        self._model, self._records, self._run, self._task, self._stream = model, records, run, task, stream
        # The engine sums in the order of the optimizer's parameters, which is made that of the adapter's layout. The
        # optimizer itself never steps.
        ordered = [parameters[tensor.name] for tensor in layout_of(model).tensors]
        self._sampler = UnitSampler(records.units, privacy.sampling_rate, stream)
        self._engine = PrivateEngine(
            model,
            torch.optim.SGD(ordered, lr=0.0),
            DPParameters(
                noise_multiplier=privacy.noise_multiplier if privacy.private else 0.0,
                clip=privacy.clip,
                sampling_rate=privacy.sampling_rate,
                expected_batch=privacy.expected_batch,
                private=privacy.private,
                clipping=planned_clipping(privacy),
            ),
            stream,
            microbatch=microbatch,
            backend=backend,
        )

    def run(
        self, adapter: Vector, *, honest: int, between_steps: Callable[[], None] | None = None
    ) -> NDArray[np.int64]:
        """One Poisson sample's clipped gradient sum at ``adapter`` with this hospital's noise share, int64 ``[P]``.

        Args:
            adapter: where the gradients are taken, float32 ``[P]``.
            honest: t - c, into which the noise is shared.
            between_steps: called before the step; raises to stop (the kill switch).

        Raises:
            PrivacyParameterError: no honest share is certain, or the plan describes another number of parameters.
        """
        spec = self._run.gradient_spec(honest=honest)
        if between_steps is not None:
            between_steps()
        set_vector(self._model, adapter)
        rows, patients = self._sampler.sample()
        total = self._engine.gradient_sum(self._losses, rows, patients, grid_step=spec.step)
        return spec.with_share(spec.cut(total), self._stream)

    def preflight(self) -> None:
        """To be called before any budget is spent: rows do not mix, and the sampler is the one that is priced.

        Raises:
            PreflightError: FW-DP-015, FW-DP-017, the printed epsilon would be wrong.
        """
        if self._run.plan.privacy.private:
            row_independence_self_test(self._engine, self._losses, np.arange(min(3, len(self._records))))
            sampler_self_test(self._sampler, self._run.plan.privacy.sampling_rate)

    def _losses(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return self._task.losses(self._model, self._records, rows)
