"""Where a simulation's noise comes from: the operating system, or a seed under an unsafe name."""

from __future__ import annotations

from dataclasses import dataclass

from fedward.privacy.noise import SecureStream, unsafe_seeded_stream


@dataclass(frozen=True)
class Randomness:
    """Hands out one stream per purpose and hospital.

    Attributes:
        unsafe_seed: None for noise from the operating system; a number makes every stream reproducible
            and the run NON-PRIVATE, because whoever knows the seed can subtract the noise.
    """

    unsafe_seed: int | None = None

    def stream(self, purpose: str, site: str) -> SecureStream:
        """An independent stream; the same arguments give the same stream only with a seed."""
        if self.unsafe_seed is None:
            return SecureStream.from_os()
        return unsafe_seeded_stream(self.unsafe_seed, purpose, site)
