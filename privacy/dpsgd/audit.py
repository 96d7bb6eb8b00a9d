"""The mechanism audit: many single steps of the real engine, with and without one patient.

The pair of inputs is the worst one for an engine of this kind. Eight companions have gradients of exactly the clip norm
in one direction; the patient in question has two long records whose gradients, far above the clip norm, point the other
way. The sampling rate is 1, so one step is exactly a Gaussian mechanism and what it may leak is known without an
accountant: mu = 1 / sigma. A sound engine stays below and, if the audit can see anything, close to it; an engine that
forgets to clip, divides by who was there, lets rows mix or loses its noise lies above. Subsampling has its own
self-test (:func:`~fedward.privacy.dpsgd.engine.sampler_self_test`) and its own price.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedward.errors import IntegrityError
from fedward.privacy.audit import Errors, Repetition, choose_threshold, mu_lower_bound, repetition
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import Backend, PrivateEngine, UnitSampler
from fedward.privacy.noise import SecureStream

STEPS = 20_000
PILOT_SHARE, LEAST_PILOT = 10, 200
CONFIDENCE = 0.999
SIGMA = 1.0
LEAST_RATIO = 0.5
"""Below this share of the certified leak, found at 20,000 steps, something else is wrong: the audit must see."""
COMPANIONS, TARGET_RECORDS, TARGET_TOKENS = 8, 2, 32
WIDTH, HIDDEN = 4, 8

TokenLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps losses per token ``[b, T]`` and a 0/1 mask ``[b, T]`` to one loss per record ``[b]``."""

EngineFactory = Callable[..., PrivateEngine]
"""Makes the engine under audit: :class:`PrivateEngine` itself, or a broken variant in a test."""


@dataclass(frozen=True)
class MechanismAudit:
    """What the steps of one engine showed."""

    backend: str  # how the engine computed gradients per record
    steps: int  # scored steps, half with and half without the patient on average
    mu_certified: float  # 1 / sigma, what one step may leak
    mu_lower: float  # what it leaks at least, at ``confidence``
    confidence: float  # of ``mu_lower`` and of ``noise``
    errors: Errors  # of the test that the pilot steps chose, on the scored steps
    noise: Repetition  # whether the noise of successive steps is alike

    @property
    def ratio(self) -> float:
        """Lower bound over certificate; above 1 the engine is broken, near 0 the audit saw nothing."""
        return self.mu_lower / self.mu_certified

    @property
    def leaks(self) -> bool:
        """Whether the steps contradict the certificate."""
        return self.ratio > 1.0 or self.noise.repeats

    def figures(self) -> dict[str, str | int | float | bool]:
        """What the audit found, for JSON."""
        names = ("backend", "steps", "mu_certified", "mu_lower", "ratio", "confidence", "leaks")
        noise = {"noise_correlation": self.noise.correlation, "noise_correlation_limit": self.noise.limit}
        return {name: getattr(self, name) for name in names} | noise

    def check(self) -> None:
        """Raises FW-AUDIT-001 unless the engine keeps its promise and the audit could have seen if not."""
        if self.ratio > 1.0:
            reason = f"A step leaks at least {self.ratio:.2f} times what the certificate allows."
        elif self.noise.repeats:
            reason = "The noise of successive steps is correlated, so it can be subtracted."
        elif self.ratio < LEAST_RATIO:
            reason = f"The audit found only {self.ratio:.2f} times the certified leak: it is blind."
        else:
            return
        raise IntegrityError(reason, code="FW-AUDIT-001")


def audit_mechanism(
    *,
    steps: int = STEPS,  # scored ones; a tenth more, at least 200, is taken first to choose the test
    backend: Backend = "fast",
    stream: SecureStream | None = None,  # noise, and the coins that include the patient; by default from the system
    make_engine: EngineFactory = PrivateEngine,
    token_loss: TokenLoss | None = None,  # the mean over each record's own tokens by default
    progress: Callable[[int], None] = lambda steps: None,  # called with the number of steps done since the last call
) -> MechanismAudit:
    """Audits single steps of an engine; see the module's text for the inputs. Call ``check`` on what it returns."""
    stream = stream or SecureStream.from_os()
    pilot = max(LEAST_PILOT, steps // PILOT_SHARE)
    bench = _Bench(backend, stream, make_engine, token_loss or mean_over_own_tokens)
    try:
        with_patient = (stream.uint64(pilot + steps) & np.uint64(1)).astype(np.bool_)
        released = np.stack([bench.step(bool(present), progress) for present in with_patient])
    finally:
        bench.engine.close()
    scores = released @ bench.direction
    head, head_in = scores[:pilot], with_patient[:pilot]
    tail, tail_in = scores[pilot:], with_patient[pilot:]
    test = choose_threshold(head[~head_in], head[head_in])
    errors = test.errors(tail[~tail_in], tail[tail_in])
    mu_lower = mu_lower_bound(errors, confidence=CONFIDENCE)
    # The clipped sum lies along the direction whoever takes part, so what is orthogonal to it is noise alone.
    noise = repetition(released - np.outer(scores, bench.direction), confidence=CONFIDENCE)
    return MechanismAudit(backend, steps, 1.0 / SIGMA, mu_lower, CONFIDENCE, errors, noise)


def mean_over_own_tokens(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean loss of each record over its own tokens: ``[b, T]`` and a 0/1 mask ``[b, T]`` -> ``[b]``."""
    return (losses * mask).sum(dim=1) / mask.sum(dim=1)


class _TinyModel(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """Frozen linear layer with a LoRA matrix B beside it, and a linear head: the gradient is linear in the input."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, HIDDEN, bias=False).requires_grad_(False)
        self.lora_b = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.head = nn.Linear(HIDDEN, 1, bias=False)
        numbers = np.random.Generator(np.random.Philox(0))
        with torch.no_grad():
            for layer in (self.base, self.lora_b, self.head):
                layer.weight.copy_(torch.from_numpy(numbers.normal(size=tuple(layer.weight.shape))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores ``[b, T]`` of tokens ``[b, T, WIDTH]``."""
        return cast(torch.Tensor, self.head(self.base(x) + self.lora_b(x)).squeeze(-1))


class _Bench:
    """The tiny model, the neighbouring pair and the engine under audit."""

    def __init__(
        self, backend: Backend, stream: SecureStream, make_engine: EngineFactory, token_loss: TokenLoss
    ) -> None:
        self._model, self._token_loss = _TinyModel(), token_loss
        self._trained = [p for p in self._model.parameters() if p.requires_grad]
        self._start = [p.detach().clone() for p in self._trained]
        self._patients = np.array([*range(COMPANIONS), *([COMPANIONS] * TARGET_RECORDS)], np.int64)
        self._inputs = torch.zeros(len(self._patients), TARGET_TOKENS, WIDTH)
        self._mask = torch.zeros(len(self._patients), TARGET_TOKENS)
        params = DPParameters(SIGMA, 1.0, 1.0, float(COMPANIONS), max_records_per_unit=TARGET_RECORDS)
        self.direction = self._place_records(params)
        self._samplers = {
            present: UnitSampler(members, params.sampling_rate, stream, max_records_per_unit=TARGET_RECORDS)
            for present, members in ((False, self._patients[:COMPANIONS]), (True, self._patients))
        }
        self._batch = params.expected_batch
        optimizer = torch.optim.SGD(self._trained, lr=1.0)
        self.engine = make_engine(self._model, optimizer, params, stream, backend=backend)

    def step(self, present: bool, progress: Callable[[int], None]) -> NDArray[np.float64]:
        """One step from the same weights; returns what it released, times the plan's denominator, ``[P]``."""
        records, patients = self._samplers[present].sample()
        self.engine.step(self._losses, records, patients)
        parts = [(a - p.detach()).flatten() for a, p in zip(self._start, self._trained, strict=True)]
        released = np.asarray(torch.cat(parts).double().numpy() * self._batch)
        with torch.no_grad():
            for parameter, value in zip(self._trained, self._start, strict=True):
                parameter.copy_(value)
        progress(1)
        return released

    def _losses(self, records: NDArray[np.int64]) -> torch.Tensor:
        return self._token_loss(self._model(self._inputs[records]), self._mask[records])

    def _place_records(self, params: DPParameters) -> NDArray[np.float64]:
        """Fills inputs so that companions lie at the clip norm and the patient opposite; returns the unit direction."""
        unit = torch.eye(WIDTH)[0]
        self._inputs[0, 0] = unit
        score = self._model(self._inputs[:1])[0, 0]
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(score, self._trained)]).double()
        norm = float(gradient.norm())
        companion = unit * (params.clip / norm)
        self._inputs[:COMPANIONS, 0], self._mask[:COMPANIONS, 0] = companion, 1.0
        self._inputs[COMPANIONS:], self._mask[COMPANIONS:] = -3.0 * companion, 1.0
        return np.asarray((gradient / norm).numpy())
