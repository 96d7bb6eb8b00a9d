"""Local training: some private steps from the global adapter, and the clipped delta that results.

The optimizer's moments stay at the hospital and live on from round to round. They are functions of noised gradients
only, so keeping them costs no privacy. They are forgotten only where the strategy says that the basis of a factor has
changed under them, and with the process, as they are in memory: a hospital that was started again says that it begins
them anew.

A strategy may train another part of the adapter in the next round, or in the next step. Then the engine is closed and
another one opened on exactly the parameters that are trained now: no parameter is ever noised that is not sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.gradient_correction import LocalTerms
from fedward.client.models.adapter_model import (
    AdapterModel,
    adapter_parameters,
    get_vector,
    layout_of,
    set_vector,
    train_only,
    trainable,
)
from fedward.client.records import Records
from fedward.client.tasks.task import LocalTask
from fedward.errors import RunFailedError
from fedward.plan import Plan
from fedward.privacy.dpsgd import DPParameters, PrivateEngine, UnitSampler
from fedward.privacy.dpsgd.clipping import planned_clipping
from fedward.privacy.dpsgd.engine import Backend, row_independence_self_test, sampler_self_test, weight_change_canary
from fedward.privacy.noise import SecureStream
from fedward.run import Run
from fedward.strategies.strategy import Kind, kind_of, positions_of

LOG = logging.getLogger(__name__)


class LocalTrainer:
    """Trains one adapter model on one hospital's training patients under the plan's constants.

    Args:
        model: changed in place.
        records: training patients.
        run: the resolved plan: steps, rates, clip, noise; nothing is taken from the data.
        task: the loss of each record.
        stream: noise and sampling; from the operating system except in marked non-private runs.
        units_per_site: the public number of units behind the denominator; the plan's unless this
            trainer stands for several hospitals (pooled comparison).
        microbatch: records per forward pass; speed and memory only.
        backend: how per-record gradients are computed; speed only.
        federated: False where there is no global adapter to stay close to, only the untrained start.
    """

    def __init__(
        self,
        model: AdapterModel,
        records: Records,
        run: Run,
        task: LocalTask,
        stream: SecureStream,
        *,
        units_per_site: int | None = None,
        microbatch: int | None = None,
        backend: Backend = "fast",
        federated: bool = True,
    ) -> None:
        plan, privacy = run.plan, run.plan.privacy
        self._model, self._records, self._plan, self._task = model, records, plan, task
        self._strategy = run.at_rank(layout_of(model))
        self._stream, self._microbatch, self._backend = stream, microbatch, backend
        self._moments: dict[tuple[str, torch.nn.Parameter], dict[str, torch.Tensor]] = {}
        self._parameters = DPParameters(
            noise_multiplier=privacy.noise_multiplier if privacy.private else 0.0,
            clip=privacy.clip,
            sampling_rate=privacy.sampling_rate,
            expected_batch=privacy.sampling_rate * (units_per_site or privacy.units_per_site),
            private=privacy.private,
            clipping=planned_clipping(privacy),
        )
        self._steps = 0
        self._start: Vector | None = None  # where the last training began, which tells the basis of the moments
        self._kinds, self._purpose = self._strategy.trained(1, 0), "global"
        optimizer = self._optimizer()
        self._terms = LocalTerms(
            optimizer, trainable(model), layout_of(model), proximal=plan.training.proximal if federated else 0.0
        )
        self._sampler = UnitSampler(records.units, privacy.sampling_rate, stream)
        self._engine = self._open(optimizer)

    def run(
        self,
        adapter: Vector,
        steps: int,
        *,
        round_number: int = 1,
        shift: Vector | None = None,
        purpose: str = "global",
        between_steps: Callable[[], None] | None = None,
    ) -> Vector:
        """Trains ``steps`` steps from ``adapter`` and returns the clipped delta, both float32 ``[P]``.

        Args:
            adapter: the global state at the rank of the model.
            steps: local steps.
            round_number: the training round, which says what is trained.
            shift: added to each gradient behind the noise, float32 ``[P]``.
            purpose: what is trained; each purpose has optimizer moments of its own.
            between_steps: called before each step; it may raise to stop (the kill switch).

        Raises:
            PreflightError: FW-DP-016, the very first step did not move what is trained.
            RunFailedError: FW-RUN-010, the delta is not finite.
        """
        set_vector(self._model, adapter)
        self._terms.begin(adapter, shift=shift)
        if self._start is not None:
            self._forget(self._strategy.stale_moments(self._start, adapter))
        elif round_number > 1:
            LOG.warning("training round %d: the first of this process; Adam's moments begin anew", round_number)
        self._start = adapter
        self._model.train()
        for local_step in range(steps):
            if between_steps is not None:
                between_steps()
            self._use(self._strategy.trained(round_number, local_step), purpose)
            self._steps += 1
            before = self._trained_vector() if self._steps == 1 else adapter
            rows, patients = self._sampler.sample()
            self._engine.step(self._losses, rows, patients)
            if self._steps == 1 and (rows.size or self._plan.privacy.private):
                weight_change_canary(before, self._trained_vector(), private=self._plan.privacy.private)
        return clip_delta(get_vector(self._model) - adapter, self._plan)

    @property
    def mean_gradient(self) -> Vector:
        """Mean of the last run's noised gradients, without shift and pull, float32 ``[P]``; kept if it had a shift."""
        return self._terms.mean_gradient

    def preflight(self) -> None:
        """To be called before any budget is spent: rows do not mix, and the sampler is the one that is priced.

        Raises:
            PreflightError: FW-DP-015, FW-DP-017, the printed epsilon would be wrong.
        """
        if not self._plan.privacy.private:
            return
        steps = range(min(2, self._plan.training.local_steps))
        for kinds in dict.fromkeys(self._strategy.trained(number, step) for number in (1, 2) for step in steps):
            self._use(kinds)
            row_independence_self_test(self._engine, self._losses, np.arange(min(3, len(self._records))))
        sampler_self_test(self._sampler, self._plan.privacy.sampling_rate)

    def _use(self, kinds: frozenset[Kind], purpose: str = "global") -> None:
        """Makes ``kinds`` what the engine trains; a clip norm that adapts goes on where it stood."""
        if (kinds, purpose) == (self._kinds, self._purpose):
            return
        self._engine.close()
        self._parameters = replace(self._parameters, clip=self._engine.clip)
        self._kinds, self._purpose = kinds, purpose
        optimizer = self._optimizer()
        self._terms.attach(optimizer)
        self._engine = self._open(optimizer)

    def _trained_vector(self) -> Vector:
        """A copy of what is trained now: the state's part as it would be sent, and personal parts beside it."""
        sent = get_vector(self._model)[positions_of(layout_of(self._model), self._kinds)]
        state, every = trainable(self._model), adapter_parameters(self._model)
        kept = [p.detach().cpu().numpy().ravel() for name, p in every.items() if p.requires_grad and name not in state]
        return np.concatenate([sent, *kept])

    def _optimizer(self) -> torch.optim.Adam:
        """Adam on exactly ``self._kinds``, with the moments that their parameters had before."""
        train_only(self._model, self._kinds)
        moving = {name: p for name, p in adapter_parameters(self._model).items() if p.requires_grad}
        head = [parameter for name, parameter in moving.items() if kind_of(name) == "head"]
        lora = [parameter for name, parameter in moving.items() if kind_of(name) != "head"]
        rates = self._plan.training
        groups = [(head, rates.learning_rate_head), (lora, rates.learning_rate_lora)]
        optimizer = torch.optim.Adam([{"params": group, "lr": rate} for group, rate in groups if group])
        for parameter in moving.values():  # Adam fills these in place, so moments outlive the optimizer
            optimizer.state[parameter] = self._moments.setdefault((self._purpose, parameter), {})
        return optimizer

    def _open(self, optimizer: torch.optim.Optimizer) -> PrivateEngine:
        return PrivateEngine(
            self._model, optimizer, self._parameters, self._stream, microbatch=self._microbatch, backend=self._backend
        )

    def _forget(self, kinds: frozenset[Kind]) -> None:
        for name, parameter in adapter_parameters(self._model).items():
            if kind_of(name) in kinds:
                for (_, moved), moments in self._moments.items():
                    if moved is parameter:
                        moments.clear()

    def _losses(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return self._task.losses(self._model, self._records, rows)


def clip_delta(delta: Vector, plan: Plan) -> Vector:
    """Scales ``delta`` to the plan's L2 norm and cuts entries at its bound, as the encoding requires."""
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    if not np.isfinite(norm):
        raise RunFailedError("Training left the numbers that can be represented.", code="FW-RUN-010")
    scale = min(1.0, plan.secure_sum.delta_l2_clip / norm) if norm > 0 else 1.0
    return cut_entries(delta * np.float32(scale), plan.secure_sum.delta_bound, "what training changed")


def cut_entries(values: Vector, bound: float, what: str) -> Vector:
    """``values`` with every entry in [-bound, bound], as the encoding requires; the log here says how many were cut."""
    cut = int(np.count_nonzero(np.abs(values) > bound))
    if cut:
        LOG.warning("%s: %d of %d entries exceed the plan's bound of %g and were cut", what, cut, values.size, bound)
    kept: Vector = np.clip(values, -bound, bound).astype(np.float32, copy=False)
    return kept
