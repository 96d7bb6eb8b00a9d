"""Clipping: how a step bounds a patient's gradient (fixed norm, adaptive norm, full length) and noises it.

``fixed`` (Abadi et al. 2016): g min(1, C / |g|). The contribution of a patient has norm at most C.

``adaptive`` (Andrew et al. 2021): as fixed, with C following a quantile of the patients' norms. What C learns from
patients is one number per step, the *noised* count of sampled patients with norm at most C. Its noise is paid for by
the gradients: count and gradient together are one Gaussian mechanism with exactly the certified sigma.

``automatic`` (Bu et al. 2023, AUTO-S): g C / (|g| + gamma). The norm stays *below* C for every gradient, however
long, so C is the sensitivity, and the noise is that of fixed clipping. Short gradients are lengthened: a patient whose
loss is nearly flat counts almost as much as any other. Under Adam C cancels out and only gamma is left to choose.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from fedward.errors import ConfigError
from fedward.plan import PrivacyPlan
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import SecureStream, gaussian

ROUNDING_SLACK = 1.0 - 2.0**-20
"""Clip factors are lowered by this much, so that float32 rounding cannot lift a clipped row above C."""

SMALLEST_STABILISER, _LARGEST_STEP = 1e-6, 50.0


@dataclass(frozen=True)
class AdaptiveClipping:
    """Plan constants of adaptive clipping."""

    quantile: float  # share of patients whose gradient should be left as it is, in (0, 1)
    learning_rate: float  # largest change of log C per step for a share that is off by one
    count_noise: float  # standard deviation sigma_b of the noise on the count, in patients
    smallest: float  # C never falls below
    largest: float  # C never rises above

    def __post_init__(self) -> None:
        positive = (self.learning_rate, self.count_noise, self.smallest, self.largest)
        sound = all(math.isfinite(value) and value > 0 for value in positive) and 0 < self.quantile < 1
        if not sound or self.smallest > self.largest:
            needs = "a quantile in (0, 1), a positive rate, a noised count and ordered bounds"
            raise PrivacyParameterError(f"Adaptive clipping needs {needs}.")

    def gradient_noise(self, noise_multiplier: float) -> float:
        """Noise multiplier left for the gradients, so that the step as a whole has the certified ``noise_multiplier``.

        A patient moves the centred count by 1/2, which is 1 / (2 sigma_b) standard deviations, and the clipped sum by
        at most 1 / sigma_g of them. In units of the noise the patient moves the pair by at most 1 / sigma with sigma^-2
        = sigma_g^-2 + (2 sigma_b)^-2 (Andrew et al. 2021, theorem 1), and both come from one Poisson sample. Raises
        FW-DP-018 if sigma_b is at most sigma / 2.
        """
        left = noise_multiplier**-2 - (2.0 * self.count_noise) ** -2
        if left <= 0:
            small = f"A count noise of {self.count_noise:g} units is too small for the noise multiplier "
            raise ConfigError(f"{small}{noise_multiplier:.4g}: it must exceed half of it.", code="FW-DP-018")
        return 1.0 / math.sqrt(left)


@dataclass(frozen=True)
class AutomaticClipping:
    """Plan constant of automatic clipping: ``stabiliser`` is gamma, in the unit of gradient norms."""

    stabiliser: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.stabiliser) and self.stabiliser >= SMALLEST_STABILISER):
            raise PrivacyParameterError("Automatic clipping needs a finite stabiliser of at least 1e-6.")


Clipping: TypeAlias = AdaptiveClipping | AutomaticClipping | None  # ``None`` is fixed clipping


def planned_clipping(privacy: PrivacyPlan) -> Clipping:
    """The clipping that a plan names."""
    if privacy.clipping == "adaptive":
        smallest, largest = privacy.clip_min, privacy.clip_max
        rate, count_noise = privacy.clip_learning_rate, privacy.clip_count_noise
        return AdaptiveClipping(privacy.clip_quantile, rate, count_noise, smallest=smallest, largest=largest)
    return AutomaticClipping(privacy.clip_stabiliser) if privacy.clipping == "automatic" else None


def gradient_noise(clipping: Clipping, noise_multiplier: float) -> float:
    """Noise multiplier of the gradients of a step that is certified with ``noise_multiplier``; FW-DP-018 as above."""
    if isinstance(clipping, AdaptiveClipping):
        return clipping.gradient_noise(noise_multiplier)
    return noise_multiplier


class ClipRule:
    """What an engine asks of its clipping, one batch after the other. As it is: g min(1, C / |g|), with a fixed C."""

    def __init__(self, clip: float) -> None:
        self._clip = clip

    @property
    def bound(self) -> float:
        """C of the coming step; public as long as the noise is secret."""
        return self._clip

    def factors(self, norms: torch.Tensor) -> torch.Tensor:
        """Factor of each patient's gradient from its L2 norm, ``[n]`` each; may remember that it saw the patients."""
        return (self._clip * ROUNDING_SLACK / norms).clamp(max=ROUNDING_SLACK)

    def close_step(self, stream: SecureStream) -> None:
        """Ends a step after its gradient noise was added, with patients or without."""

    def forget(self) -> None:
        """Drops what a step that was not ended has left."""


class AutomaticRule(ClipRule):
    """g C / (|g| + gamma)."""

    def __init__(self, clip: float, plan: AutomaticClipping) -> None:
        super().__init__(clip)
        self._plan = plan

    def factors(self, norms: torch.Tensor) -> torch.Tensor:
        """Below C / (norm + gamma) for every norm."""
        return self._clip * ROUNDING_SLACK / (norms + self._plan.stabiliser)


class AdaptiveRule(ClipRule):
    """Fixed clipping in each step, and a C that moves between steps by the noised count alone.

    There is no way to set C, and none to read the count: it is noised where it is used and then dropped.
    """

    def __init__(self, clip: float, expected_batch: float, plan: AdaptiveClipping) -> None:
        super().__init__(clip)
        self._plan, self._expected_batch = plan, expected_batch
        self._centred = 0.0

    def factors(self, norms: torch.Tensor) -> torch.Tensor:
        """Also adds 1/2 to the centred count per patient within C, and -1/2 per other one."""
        within = int((norms <= self._clip).sum())
        self._centred += within - len(norms) / 2  # a norm that is not a number is not within
        return super().factors(norms)

    def close_step(self, stream: SecureStream) -> None:
        """C exp(-rate (share - quantile)), the share from the noised count over the plan's batch; as many or none."""
        noised = self._centred + self._plan.count_noise * float(gaussian(stream, 1)[0])
        self._centred = 0.0
        share = 0.5 + noised / self._expected_batch
        step = self._plan.learning_rate * (share - self._plan.quantile)
        moved = self._clip * math.exp(-min(max(step, -_LARGEST_STEP), _LARGEST_STEP))
        self._clip = min(max(moved, self._plan.smallest), self._plan.largest)

    def forget(self) -> None:
        """Drops the count of a step that was not ended."""
        self._centred = 0.0


@dataclass(frozen=True)
class DPParameters:
    """Plan constants. None of them may be computed from the patients at hand."""

    noise_multiplier: float  # standard deviation of the noise over ``clip``, as certified for the whole step
    clip: float  # bound C on the L2 norm of one patient's summed gradient; where clipping adapts, in the first step
    sampling_rate: float  # Poisson rate q, the same at every site
    expected_batch: float  # q times the plan's public site size; the denominator of every step
    max_records_per_unit: int = 1  # records of one patient in a batch
    private: bool = True  # ``False`` keeps sampler and denominator and drops clipping and noise
    clipping: Clipping = None  # how C bounds a gradient; fixed by default

    def __post_init__(self) -> None:
        positive = (self.clip, self.expected_batch, *([self.noise_multiplier] if self.private else []))
        if not all(math.isfinite(value) and value > 0 for value in positive):
            raise PrivacyParameterError("Noise multiplier, clip norm and expected batch must be positive and finite.")
        if not 0 < self.sampling_rate <= 1 or self.max_records_per_unit < 1:
            raise PrivacyParameterError("The sampling rate must lie in (0, 1] and a unit needs at least one record.")
        adaptive = self.clipping if isinstance(self.clipping, AdaptiveClipping) else None
        if adaptive and not adaptive.smallest <= self.clip <= adaptive.largest:
            raise PrivacyParameterError("Adaptive clipping must start between its own bounds.")
        _ = self.gradient_noise  # refuses a count that would cost more than the whole step may

    @property
    def gradient_noise(self) -> float:
        """Standard deviation of the gradients' noise over C; above ``noise_multiplier`` where clipping adapts."""
        return gradient_noise(self.clipping, self.noise_multiplier) if self.private else self.noise_multiplier


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Sums each patient's rows, clips the sum to C, adds N(0, (sigma C)^2) once and divides by a plan constant.

    ``noise_multiplier`` stays the certified sigma; where clipping adapts, part of it pays for the count and the
    gradients get more noise. ``max_grad_norm`` is C of the coming step. Opacus divides by the number of accumulated
    micro-batches too, and cannot step on an empty batch; both depend on who was sampled.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: DPParameters, stream: SecureStream) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=parameters.noise_multiplier,
            max_grad_norm=parameters.clip,
            expected_batch_size=parameters.expected_batch,
        )
        self._stream, self._gradient_noise = stream, parameters.gradient_noise
        self._rule, clipping = ClipRule(parameters.clip), parameters.clipping
        if isinstance(clipping, AdaptiveClipping):
            self._rule = AdaptiveRule(parameters.clip, parameters.expected_batch, clipping)
        elif isinstance(clipping, AutomaticClipping):
            self._rule = AutomaticRule(parameters.clip, clipping)

    def clip_and_accumulate(self, patients: NDArray[np.int64] | None = None) -> None:
        """Adds the clipped gradients of some patients to the running sum; ``None`` if each row is another patient."""
        rows, factor = self._rows_and_factors(patients)
        for parameter, row in zip(self.params, rows, strict=True):
            total = _unflatten(factor @ row, parameter)
            parameter.summed_grad = total if parameter.summed_grad is None else parameter.summed_grad + total
            parameter.grad_sample = None

    def clipped_grid_sum(self, patients: NDArray[np.int64], *, grid_step: float) -> NDArray[np.int64]:
        """Clipped gradients of some patients, each rounded to the grid before they are added, int64 ``[P]``.

        Rounding to nearest lifts a patient's norm by at most sqrt(P) / 2 grid units, and sums of integers are exact:
        the sum's sensitivity stays below C / grid_step + sqrt(P), which no float32 summation could promise. The other
        half of sqrt(P) covers the float32 error of norm and product, as long as C / grid_step is below 2^14 sqrt(P).
        ``patients`` is as for :meth:`clip_and_accumulate`.
        """
        rows, factor = self._rows_and_factors(patients)
        scale = (factor / grid_step)[:, None]
        whole = []
        for parameter, row in zip(self.params, rows, strict=True):
            total = torch.round(row * scale).sum(dim=0, dtype=torch.float64)
            whole.append(_unflatten(total, parameter).flatten())
            parameter.grad_sample = None
        return np.asarray(torch.cat(whole).cpu().numpy(), np.int64)

    def _rows_and_factors(self, patients: NDArray[np.int64] | None) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Each parameter's gradients with one row per patient, and the patients' clip factors.

        A row without a finite norm is zeroed: that depends on its patient alone; 0 * nan would poison everybody's sum.
        """
        rows = self._rows_by_patient(patients)
        norms = torch.stack([torch.linalg.vector_norm(row, dim=1) for row in rows]).norm(dim=0)
        broken = ~torch.isfinite(norms)
        factor = self._rule.factors(norms).masked_fill(broken, 0.0)
        if bool(broken.any()):
            rows = [row.masked_fill(broken[:, None], 0.0) for row in rows]
        return rows, factor

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
