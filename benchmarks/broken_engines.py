"""Training engines, gradient sums and statistics that are broken on purpose, to show that the audit notices.

Each is one plausible mistake. They exist for the benchmark and the tests, and are in no wheel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.privacy.dpsgd.audit import EngineFactory, TokenLoss, mean_over_own_tokens
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import LossPerRecord, PrivateEngine
from fedward.privacy.noise import GradientSpec, Integers, SecureStream, noisy_release

Numbers = NDArray[np.int64]


class Broken(NamedTuple):
    """What to audit instead of the real thing."""

    make_engine: EngineFactory = PrivateEngine
    token_loss: TokenLoss = mean_over_own_tokens


def with_other_constants(change: Callable[[DPParameters], DPParameters]) -> EngineFactory:
    """The real engine, run with other constants than those that were certified."""

    def make(model: Any, optimizer: Any, params: DPParameters, stream: SecureStream, **rest: Any) -> PrivateEngine:
        return PrivateEngine(model, optimizer, change(params), stream, **rest)

    return make


def without_noise(params: DPParameters) -> DPParameters:
    """Sigma 0, as nearly as the engine can be told."""
    return replace(params, noise_multiplier=1e-30)


def without_clipping(params: DPParameters) -> DPParameters:
    """The same noise, and a clip norm that nothing reaches."""
    far = 1e6
    return replace(params, clip=params.clip * far, noise_multiplier=params.noise_multiplier / far)


class BrokenByRealisedBatch(PrivateEngine):
    """Divides by the number of patients who were drawn."""

    def step(self, loss_per_record: LossPerRecord, records: Numbers, patients: Numbers) -> None:
        """See :class:`PrivateEngine`."""
        self._optimizer.expected_batch_size = max(1, len(np.unique(patients)))
        super().step(loss_per_record, records, patients)


class BrokenByRecord(PrivateEngine):
    """Clips each record by itself, so a patient counts as often as there are notes."""

    def step(self, loss_per_record: LossPerRecord, records: Numbers, patients: Numbers) -> None:
        """See :class:`PrivateEngine`."""
        super().step(loss_per_record, records, records)

    def gradient_sum(
        self, loss_per_record: LossPerRecord, records: Numbers, patients: Numbers, *, grid_step: float
    ) -> Numbers:
        """See :class:`PrivateEngine`."""
        return super().gradient_sum(loss_per_record, records, records, grid_step=grid_step)


class BrokenRepeatingStream(SecureStream):
    """Starts its key stream again for every draw, as a generator seeded in each round does."""

    def fill(self, out: NDArray[np.uint8]) -> None:
        """See :class:`SecureStream`."""
        SecureStream(bytes(32)).fill(out)


def with_reused_noise(
    model: Any, optimizer: Any, params: DPParameters, stream: SecureStream, **rest: Any
) -> PrivateEngine:
    """The real engine on a stream that repeats itself."""
    return PrivateEngine(model, optimizer, params, BrokenRepeatingStream(bytes(32)), **rest)


def broken_mean_over_batch_tokens(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The token mean of Hugging Face models, as a vector: a long record shrinks everybody else's loss."""
    return (losses * mask).sum(dim=1) / mask.sum()


def with_constant_key(
    model: Any, optimizer: Any, params: DPParameters, stream: SecureStream, **rest: Any
) -> PrivateEngine:
    """The real engine on a sound stream whose key everybody knows."""
    return PrivateEngine(model, optimizer, params, SecureStream(bytes(32)), **rest)


Change = Callable[[torch.Tensor, bool], torch.Tensor]  # of a noise vector; the flag says that nobody was sampled


def with_changed_noise(make_change: Callable[[], Change]) -> EngineFactory:
    """The real engine, whose noise vector is changed before it is added."""

    def make(model: Any, optimizer: Any, params: DPParameters, stream: SecureStream, **rest: Any) -> PrivateEngine:
        engine = PrivateEngine(model, optimizer, params, stream, **rest)
        inner, change = engine._optimizer, make_change()
        draw = inner.add_noise

        def add_noise() -> None:
            sums = [p.summed_grad for p in inner.params]
            for parameter in inner.params:
                parameter.summed_grad = None
            draw()
            nobody = all(one is None for one in sums)
            noise = change(torch.cat([p.grad.flatten() for p in inner.params]), nobody)
            sizes = [p.numel() for p in inner.params]
            for parameter, part, total in zip(inner.params, noise.split(sizes), sums, strict=True):
                parameter.grad = part.view_as(parameter) + (0 if total is None else total)

        inner.add_noise = add_noise
        return engine

    return make


def repeating_halves() -> Change:
    """The second half of each vector is its first."""
    return lambda noise, nobody: torch.cat([noise[: noise.numel() // 2]] * 2)


def used_again_after_twenty() -> Change:
    """Every vector is used again twenty steps later, so only the first twenty are ever drawn."""
    kept: deque[torch.Tensor] = deque(maxlen=20)

    def change(noise: torch.Tensor, nobody: bool) -> torch.Tensor:
        kept.append(kept[0] if len(kept) == 20 else noise)
        return kept[-1]

    return change


def used_again_once_in_a_hundred() -> Change:
    """One vector in a hundred is the one of a hundred steps before."""
    kept: list[torch.Tensor] = []

    def change(noise: torch.Tensor, nobody: bool) -> torch.Tensor:
        kept.append(kept[-100] if len(kept) % 100 == 99 and len(kept) > 100 else noise)
        return kept[-1]

    return change


def none_for_nobody() -> Change:
    """A step on an empty sample gets no noise."""
    return lambda noise, nobody: torch.zeros_like(noise) if nobody else noise


def rounded_to_an_eighth() -> Change:
    """Noise on a grid of sigma / 8."""
    return lambda noise, nobody: torch.round(noise * 8) / 8


def without_tails() -> Change:
    """Noise that is cut at two deviations."""
    return lambda noise, nobody: noise.clamp(-2, 2)


def broken_spec_for_one_more(*terms: Any, honest: int, **rest: Any) -> GradientSpec:
    """Shares sized for more hospitals than are sure to add theirs."""
    return GradientSpec(*terms, honest=honest + 1, **rest)


class BrokenSpecWithoutNoise(GradientSpec):
    """Sums that leave without any share."""

    def with_share(self, total: Integers, stream: SecureStream) -> Integers:
        """See :class:`GradientSpec`."""
        return total


class BrokenSpecOfOneCoin(GradientSpec):
    """One number of noise for all entries."""

    def with_share(self, total: Integers, stream: SecureStream) -> Integers:
        """See :class:`GradientSpec`."""
        noise = super().with_share(np.zeros_like(total), stream)
        return total + noise[0]


def broken_release_for_one_more(values: Integers, *, honest: int, **rest: Any) -> Integers:
    """Statistics with shares sized for more hospitals than are sure to add theirs."""
    return noisy_release(values, honest=honest + 1, **rest)


def broken_release_under_a_constant_key(values: Integers, *, stream: SecureStream, **rest: Any) -> Integers:
    """Statistics with the same noise each time."""
    return noisy_release(values, stream=SecureStream(bytes(32)), **rest)


def broken_release_of_what_is_there(values: Integers, **rest: Any) -> Integers:
    """Noise on cells that somebody is counted in, and none on empty ones."""
    return np.where(values == 0, 0, noisy_release(values, **rest))


BROKEN: dict[str, Broken] = {
    "sigma 0": Broken(with_other_constants(without_noise)),
    "token-mean loss": Broken(token_loss=broken_mean_over_batch_tokens),
    "no clipping": Broken(with_other_constants(without_clipping)),
    "division by the realised batch": Broken(BrokenByRealisedBatch),
    "reused noise": Broken(with_reused_noise),
    "clipping by record": Broken(BrokenByRecord),
    "constant key": Broken(with_constant_key),
    "halves of a vector alike": Broken(with_changed_noise(repeating_halves)),
    "noise used again 20 steps later": Broken(with_changed_noise(used_again_after_twenty)),
    "one vector in a hundred used again": Broken(with_changed_noise(used_again_once_in_a_hundred)),
    "no noise on an empty sample": Broken(with_changed_noise(none_for_nobody)),
    "noise rounded to sigma / 8": Broken(with_changed_noise(rounded_to_an_eighth)),
    "noise cut at two sigma": Broken(with_changed_noise(without_tails)),
}

BROKEN_SUMS: dict[str, dict[str, Any]] = {
    "shares for one hospital more": {"make_spec": broken_spec_for_one_more},
    "no shares": {"make_spec": BrokenSpecWithoutNoise},
    "one number for all entries": {"make_spec": BrokenSpecOfOneCoin},
    "no clipping": {"make_engine": with_other_constants(without_clipping)},
    "clipping by record": {"make_engine": BrokenByRecord},
}
"""What to give :func:`~fedward.privacy.dpsgd.audit.audit_gradient_sum`."""

BROKEN_RELEASES: dict[str, dict[str, Any]] = {
    "shares for one hospital more": {"release": broken_release_for_one_more},
    "the same noise each time": {"release": broken_release_under_a_constant_key},
    "no noise on empty cells": {"release": broken_release_of_what_is_there},
}
"""What to give :func:`~fedward.privacy.dpsgd.audit.audit_releases`."""
