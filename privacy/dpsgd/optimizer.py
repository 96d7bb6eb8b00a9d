"""Opacus' optimizer with the patient as the unit, a constant denominator and cryptographic noise."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from fedward.privacy.dpsgd.clipping import ClipRule, DPParameters, make_rule
from fedward.privacy.stream import SecureStream, gaussian


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Sums each patient's rows, clips the sum to C, adds N(0, (sigma C)^2) once and divides by a plan constant.

    ``noise_multiplier`` stays the certified sigma; where clipping adapts, part of it pays for the count and the
    gradients get more noise (:mod:`fedward.privacy.dpsgd.clipping`). ``max_grad_norm`` is C of the coming step.

    Opacus divides by the number of accumulated micro-batches too, and cannot step on an empty batch; both depend on who
    was sampled.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: DPParameters, stream: SecureStream) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=parameters.noise_multiplier,
            max_grad_norm=parameters.clip,
            expected_batch_size=parameters.expected_batch,
        )
        self._stream = stream
        self._rule = make_rule(parameters.clipping, clip=parameters.clip, expected_batch=parameters.expected_batch)
        self._gradient_noise = parameters.gradient_noise

    def clip_and_accumulate(self, patients: NDArray[np.int64] | None = None) -> None:
        """Adds the clipped gradients of some patients to the running sum.

        Args:
            patients: patient number of each row of ``grad_sample``, every row of a patient in this call; ``None`` if
                each row is another patient.
        """
        rows = self._rows_by_patient(patients)
        factor, broken = clip_factors(rows, self._rule)
        for parameter, row in zip(self.params, _without_broken(rows, broken), strict=True):
            total = _unflatten(factor @ row, parameter)
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total
            parameter.grad_sample = None

    def clipped_grid_sum(self, patients: NDArray[np.int64], *, grid_step: float) -> NDArray[np.int64]:
        """Clipped gradients of some patients, each rounded to the grid before they are added, int64 ``[P]``.

        Rounding to nearest lifts a patient's norm by at most sqrt(P) / 2 grid units, and sums of integers are exact:
        the sum's sensitivity stays below C / grid_step + sqrt(P), which no float32 summation could promise. The other
        half of sqrt(P) covers the float32 error of norm and product, as long as C / grid_step is below 2^14 sqrt(P).

        Args:
            patients: patient number of each row, every row of a patient in this call.
            grid_step: width of a grid unit.
        """
        rows = self._rows_by_patient(patients)
        factor, broken = clip_factors(rows, self._rule)
        scale = (factor / grid_step)[:, None]
        whole = []
        for parameter, row in zip(self.params, _without_broken(rows, broken), strict=True):
            total = torch.round(row * scale).sum(dim=0, dtype=torch.float64)
            whole.append(_unflatten(total, parameter).flatten())
            parameter.grad_sample = None
        return np.asarray(torch.cat(whole).cpu().numpy(), np.int64)

    def _rows_by_patient(self, patients: NDArray[np.int64] | None) -> list[torch.Tensor]:
        """For each parameter its gradients, flattened as they lie in memory, with one row per patient."""
        rows = [_stored(p.grad_sample).flatten(start_dim=1).float() for p in self.params]
        if patients is None:
            return rows
        _, group = np.unique(patients, return_inverse=True)
        groups = int(group.max()) + 1
        if groups == len(patients):
            return rows
        index = torch.from_numpy(group).to(rows[0].device)
        return [row.new_zeros(groups, row.shape[1]).index_add_(0, index, row) for row in rows]

    def add_noise(self) -> None:
        """Puts the noised sum into ``grad``; the noise is one draw over all parameters."""
        noise = gaussian(self._stream, sum(p.numel() for p in self.params))
        noise *= self._gradient_noise * self.max_grad_norm
        parts = torch.from_numpy(noise.astype(np.float32)).to(self.params[0].device)
        for parameter, part in zip(self.params, parts.split([p.numel() for p in self.params]), strict=True):
            parameter.grad = part.view_as(parameter)
            if parameter.summed_grad is not None:
                parameter.grad += parameter.summed_grad

    def scale_grad(self) -> None:
        """Divides by the plan's expected batch, whatever was drawn."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size

    def finish(self) -> None:
        """Noise, denominator and the wrapped optimizer's step; valid with no patient at all."""
        self.add_noise()
        self._rule.close_step(self._stream)
        self.max_grad_norm = self._rule.bound
        self.scale_grad()
        if self.step_hook:
            self.step_hook(self)
        self.original_optimizer.step()
        self.zero_grad(set_to_none=True)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clears gradients and whatever a step that failed half-way has left, its count of patients included."""
        super().zero_grad(set_to_none)
        self._rule.forget()


def _is_turned(rows: torch.Tensor) -> bool:
    return rows.dim() == 3 and not rows.is_contiguous() and rows.mT.is_contiguous()


def _stored(rows: torch.Tensor) -> torch.Tensor:
    """The rows in their order in memory, in which a backend may hold matrices transposed: flattening copies nothing."""
    return rows.mT if _is_turned(rows) else rows


def _unflatten(flat: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Gives a sum over flattened rows of ``parameter.grad_sample`` the parameter's shape."""
    return flat.view(parameter.shape[::-1]).t() if _is_turned(parameter.grad_sample) else flat.view_as(parameter)


def _without_broken(rows: list[torch.Tensor], broken: torch.Tensor) -> list[torch.Tensor]:
    """Zeroes rows without a finite norm. It depends on that patient alone; 0 * nan would poison everybody's sum."""
    return [row.masked_fill(broken[:, None], 0.0) for row in rows] if bool(broken.any()) else rows


def clip_factors(rows: list[torch.Tensor], rule: ClipRule) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the factor that bounds each row's joint L2 norm, and which rows have no finite norm, ``[n]`` each."""
    norms = torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows]).norm(dim=0)
    broken = ~torch.isfinite(norms)
    return rule.factors(norms).masked_fill(broken, 0.0), broken
