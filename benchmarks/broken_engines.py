"""Training engines that are broken on purpose, to show that the mechanism audit notices.

Each is one plausible mistake. They exist for the benchmark and the tests, and are in no wheel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.privacy.dpsgd.audit import EngineFactory, TokenLoss, mean_over_own_tokens
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import LossPerRecord, PrivateEngine
from fedward.privacy.noise import SecureStream

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


BROKEN: dict[str, Broken] = {
    "sigma 0": Broken(with_other_constants(without_noise)),
    "token-mean loss": Broken(token_loss=broken_mean_over_batch_tokens),
    "no clipping": Broken(with_other_constants(without_clipping)),
    "division by the realised batch": Broken(BrokenByRealisedBatch),
    "reused noise": Broken(with_reused_noise),
    "clipping by record": Broken(BrokenByRecord),
}
