"""The plan's constants of a private training run, and what goes wrong when a run leaves them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedward.privacy.dpsgd.clipping import AdaptiveClipping, Clipping, gradient_noise
from fedward.privacy.events import PrivacyParameterError


@dataclass(frozen=True)
class DPParameters:
    """Plan constants. None of them may be computed from the patients at hand.

    Attributes:
        noise_multiplier: standard deviation of the noise over ``clip``, as certified for the whole step.
        clip: bound C on the L2 norm of one patient's summed gradient; where clipping adapts, in the first step.
        sampling_rate: Poisson rate q, the same at every site.
        expected_batch: q times the plan's public site size; the denominator of every step.
        max_records_per_patient: records of one patient in a batch.
        private: ``False`` keeps sampler and denominator and drops clipping and noise.
        clipping: how C bounds a gradient; fixed by default.
    """

    noise_multiplier: float
    clip: float
    sampling_rate: float
    expected_batch: float
    max_records_per_patient: int = 1
    private: bool = True
    clipping: Clipping = None

    def __post_init__(self) -> None:
        positive = (self.clip, self.expected_batch, *([self.noise_multiplier] if self.private else []))
        if not all(math.isfinite(value) and value > 0 for value in positive):
            raise PrivacyParameterError("Noise multiplier, clip norm and expected batch must be positive and finite.")
        if not 0 < self.sampling_rate <= 1 or self.max_records_per_patient < 1:
            raise PrivacyParameterError("The sampling rate must lie in (0, 1] and a unit needs at least one record.")
        if isinstance(self.clipping, AdaptiveClipping):
            self.clipping.check_start(self.clip)
        _ = self.gradient_noise  # refuses a count that would cost more than the whole step may

    @property
    def gradient_noise(self) -> float:
        """Standard deviation of the gradients' noise over C; above ``noise_multiplier`` where clipping adapts."""
        return gradient_noise(self.clipping, self.noise_multiplier) if self.private else self.noise_multiplier
