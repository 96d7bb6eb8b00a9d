"""Mechanism audit: does what is released tell more about a patient than its certificate says?

What is drawn and added is taken from the real code: steps of the engine, its gradient sums with the shares of noise of
several hospitals, and noised statistics with theirs. The inputs are the worst pair: companions lie at the clip norm in
one direction; the patient in question has two records far above it in the opposite direction. Everybody is sampled and
sigma is known, so one release is exactly a Gaussian mechanism and what it may leak is known without an accountant: mu =
1 / sigma. A sound mechanism stays below and, if the audit can see anything, close to it; an engine that forgets to
clip, divides by who was there, lets rows mix or loses its noise lies above. Since the inputs are known, the noise can
be looked at by itself, in every direction and between any two releases, with and without anybody in the sample.
Subsampling has its own self-test (:func:`~fedward.privacy.dpsgd.engine.sampler_self_test`) and its own price.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedward.errors import IntegrityError
from fedward.measures import Statistic
from fedward.privacy.audit import Errors, NoiseCheck, check_noise, choose_threshold, mu_lower_bound
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import Backend, PrivateEngine, UnitSampler
from fedward.privacy.noise import GradientSpec, Integers, ReleaseSpec, SecureStream, noisy_release, total_sigma

STEPS = 20_000
PARTS, LEAST_STEPS = 4, 2_000
"""Gradient sums and statistics are released a fourth as often, as their shares take longer to draw, but not so seldom
that chance alone would make the audit blind."""
PILOT_SHARE, LEAST_PILOT = 10, 200
EMPTY_SHARE, LEAST_EMPTY = 10, 100
AGAIN = 50
"""Releases by a second instance, whose noise must be none of the first one's: a constant key shows here."""
CONFIDENCE = 0.999
SIGMA = 1.0
LEAST_RATIO = 0.5
"""Below this share of the certified leak, found at 20,000 steps, something else is wrong: the audit must see."""
COMPANIONS, TARGET_RECORDS, TARGET_TOKENS = 8, 2, 32
WIDTH, HIDDEN = 4, 8
HONEST = 3
"""Hospitals whose shares add up to the certified noise; the other two have no patients."""

TokenLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps losses per token ``[b, T]`` and a 0/1 mask ``[b, T]`` to one loss per record ``[b]``."""

EngineFactory = Callable[..., PrivateEngine]
"""Makes the engine under audit: :class:`PrivateEngine` itself, or a broken variant in a test."""

Released = NDArray[np.float64]


@dataclass(frozen=True)
class MechanismAudit:
    """What the releases of one mechanism showed."""

    mechanism: str  # what was audited
    steps: int  # scored releases, half with and half without the patient on average
    mu_certified: float  # 1 / sigma, what one release may leak
    mu_lower: float  # what it leaks at least, at ``confidence``
    confidence: float  # of ``mu_lower``, of ``noise`` and of ``empty``
    errors: Errors  # of the test that the pilot releases chose, on the scored ones
    noise: NoiseCheck  # what is left without the patients
    empty: NoiseCheck  # the same where nobody was sampled

    @property
    def ratio(self) -> float:
        """Lower bound over certificate; above 1 the mechanism is broken, near 0 the audit saw nothing."""
        return self.mu_lower / self.mu_certified

    @property
    def faults(self) -> tuple[str, ...]:
        """What contradicts the certificate, in words."""
        leak = f"a release leaks at least {self.ratio:.2f} times what the certificate allows"
        nobody = tuple(f"{words} (where nobody is sampled)" for words in self.empty.faults)
        return (*([leak] if self.ratio > 1.0 else []), *self.noise.faults, *nobody)

    @property
    def leaks(self) -> bool:
        """Whether the releases contradict the certificate."""
        return bool(self.faults)

    def figures(self) -> dict[str, object]:
        """What the audit found, for JSON."""
        names = ("mechanism", "steps", "mu_certified", "mu_lower", "ratio", "confidence", "leaks")
        found: dict[str, object] = {name: getattr(self, name) for name in names}
        return {**found, "noise": self.noise.figures(), "empty": self.empty.figures(), "faults": list(self.faults)}

    def check(self) -> None:
        """Raises FW-AUDIT-001 unless the mechanism keeps its promise and the audit could have seen if not."""
        if self.faults:
            raise IntegrityError(f"{self.mechanism}: {self.faults[0]}.", code="FW-AUDIT-001")
        if self.ratio < LEAST_RATIO:
            reason = f"{self.mechanism}: the audit found only {self.ratio:.2f} times the certified leak: it is blind."
            raise IntegrityError(reason, code="FW-AUDIT-001")


class Bench(ABC):
    """A mechanism with its neighbouring pair; whatever it releases is in units of the certified deviation."""

    direction: Released  # unit vector ``[P]`` along which patients move what is released

    @abstractmethod
    def release(self, present: bool | None) -> Released:
        """One release ``[P]``, with the patient or without; ``None`` leaves everybody out of the sample."""

    @abstractmethod
    def signal(self, present: bool | None) -> float:
        """Length along ``direction`` of what is released without noise."""

    @abstractmethod
    def close(self) -> None:
        """Takes down what was built."""


def audit_mechanism(
    *,
    steps: int = STEPS,
    backend: Backend = "fast",
    streams: Callable[[], SecureStream] = SecureStream.from_os,
    make_engine: EngineFactory = PrivateEngine,
    token_loss: TokenLoss | None = None,  # the mean over each record's own tokens by default
    progress: Callable[[int], None] = lambda steps: None,
) -> MechanismAudit:
    """Audits single steps of an engine; see :func:`audit`."""
    loss = token_loss or mean_over_own_tokens

    def make() -> Bench:
        return _StepBench(backend, streams(), make_engine, loss)

    return audit(f"{backend} engine", make, steps=steps, streams=streams, progress=progress)


def audit_gradient_sum(
    *,
    steps: int = STEPS,
    backend: Backend = "fast",
    streams: Callable[[], SecureStream] = SecureStream.from_os,
    make_engine: EngineFactory = PrivateEngine,
    make_spec: Callable[..., GradientSpec] = GradientSpec,  # as the placement secure-grad uses it
    progress: Callable[[int], None] = lambda steps: None,
) -> MechanismAudit:
    """Audits the sum of several hospitals' clipped gradients with their shares of the noise; see :func:`audit`."""

    def make() -> Bench:
        return _SumBench(backend, streams(), make_engine, mean_over_own_tokens, make_spec)

    return audit("gradient sum", make, steps=steps, streams=streams, progress=progress)


def audit_releases(
    *,
    steps: int = STEPS,
    streams: Callable[[], SecureStream] = SecureStream.from_os,
    release: Callable[..., Integers] = noisy_release,
    progress: Callable[[int], None] = lambda steps: None,
) -> MechanismAudit:
    """Audits noised statistics of several hospitals with their shares of the noise; see :func:`audit`."""

    def make() -> Bench:
        return _ReleaseBench(streams(), release)

    return audit("statistics", make, steps=steps, streams=streams, progress=progress)


def audit_installation(
    *, steps: int = STEPS, progress: Callable[[int], None] = lambda steps: None
) -> list[MechanismAudit]:
    """Audits all that leaves hospitals with noise: the engine's steps, gradient sums and statistics."""
    fewer = max(LEAST_STEPS, steps // PARTS)
    return [
        audit_mechanism(steps=steps, progress=progress),
        audit_gradient_sum(steps=fewer, progress=progress),
        audit_releases(steps=fewer, progress=progress),
    ]


def audit(
    mechanism: str,
    make_bench: Callable[[], Bench],
    *,
    steps: int,  # scored ones; a tenth more, at least 200, is taken first to choose the test
    streams: Callable[[], SecureStream],  # a new stream at each call; by default from the system
    progress: Callable[[int], None],  # called with the number of releases done since the last call
) -> MechanismAudit:
    """Audits single releases of a mechanism; see the module's text for the inputs. Call ``check`` on what it returns.

    A tenth more releases, at least 100, are taken with nobody in the sample, and 50 by a second instance.
    """
    pilot = max(LEAST_PILOT, steps // PILOT_SHARE)
    coins = (streams().uint64(pilot + steps) & np.uint64(1)).astype(np.bool_)
    bench = make_bench()
    released = _collect(bench, coins.tolist(), progress)
    empty = _collect(bench, [None] * max(LEAST_EMPTY, steps // EMPTY_SHARE), progress)
    bench.close()
    second = make_bench()
    again = _collect(second, coins[:AGAIN].tolist(), progress)
    second.close()
    scores = released @ bench.direction
    head, head_in, tail, tail_in = scores[:pilot], coins[:pilot], scores[pilot:], coins[pilot:]
    errors = choose_threshold(head[~head_in], head[head_in]).errors(tail[~tail_in], tail[tail_in])
    mu_lower = mu_lower_bound(errors, confidence=CONFIDENCE)

    def without_signal(found: Released, present: NDArray[np.bool_]) -> Released:
        lengths = np.where(present, bench.signal(True), bench.signal(False))
        return found - np.outer(lengths, bench.direction)

    noise = without_signal(released, coins)
    everything = np.concatenate([noise, empty, without_signal(again, coins[:AGAIN])])
    found = check_noise(noise, confidence=CONFIDENCE, everything=everything)
    nobody = check_noise(empty, confidence=CONFIDENCE)
    return MechanismAudit(mechanism, steps, 1.0 / SIGMA, mu_lower, CONFIDENCE, errors, found, nobody)


def _collect(bench: Bench, presences: list[bool | None], progress: Callable[[int], None]) -> Released:
    rows = []
    for present in presences:
        rows.append(bench.release(present))
        progress(1)
    return np.stack(rows)


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


class _ModelBench(Bench):
    """The tiny model, the neighbouring pair and the engine under audit."""

    def __init__(
        self, backend: Backend, stream: SecureStream, make_engine: EngineFactory, token_loss: TokenLoss
    ) -> None:
        self._model, self._token_loss, self._stream = _TinyModel(), token_loss, stream
        self._trained = [p for p in self._model.parameters() if p.requires_grad]
        self._patients = np.array([*range(COMPANIONS), *([COMPANIONS] * TARGET_RECORDS)], np.int64)
        self._inputs = torch.zeros(len(self._patients), TARGET_TOKENS, WIDTH)
        self._mask = torch.zeros(len(self._patients), TARGET_TOKENS)
        self._params = DPParameters(SIGMA, 1.0, 1.0, float(COMPANIONS), max_records_per_unit=TARGET_RECORDS)
        self.direction = self._place_records(self._params)
        self._samplers = {
            present: UnitSampler(members, self._params.sampling_rate, stream, max_records_per_unit=TARGET_RECORDS)
            for present, members in ((False, self._patients[:COMPANIONS]), (True, self._patients))
        }
        optimizer = torch.optim.SGD(self._trained, lr=1.0)
        self._engine = make_engine(self._model, optimizer, self._params, stream, backend=backend)

    def signal(self, present: bool | None) -> float:
        """Companions add C each; the patient takes one away."""
        return 0.0 if present is None else float(COMPANIONS - present)

    def close(self) -> None:
        """Closes the engine."""
        self._engine.close()

    def _sample(self, present: bool | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        nobody = np.empty(0, np.int64)
        return (nobody, nobody) if present is None else self._samplers[present].sample()

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


class _StepBench(_ModelBench):
    """Steps from the same weights; a step moves them by what is released over the plan's denominator."""

    def __init__(
        self, backend: Backend, stream: SecureStream, make_engine: EngineFactory, token_loss: TokenLoss
    ) -> None:
        super().__init__(backend, stream, make_engine, token_loss)
        self._start = [p.detach().clone() for p in self._trained]

    def release(self, present: bool | None) -> Released:
        """See :class:`Bench`; sigma C = 1."""
        self._engine.step(self._losses, *self._sample(present))
        parts = [(a - p.detach()).flatten() for a, p in zip(self._start, self._trained, strict=True)]
        with torch.no_grad():
            for parameter, value in zip(self._trained, self._start, strict=True):
                parameter.copy_(value)
        return np.asarray(torch.cat(parts).double().numpy() * self._params.expected_batch)


class _SumBench(_ModelBench):
    """Gradient sums without a step, as integers, with the shares of all hospitals added up."""

    def __init__(
        self,
        backend: Backend,
        stream: SecureStream,
        make_engine: EngineFactory,
        token_loss: TokenLoss,
        make_spec: Callable[..., GradientSpec],
    ) -> None:
        super().__init__(backend, stream, make_engine, token_loss)
        terms = (self.direction.size, self._params.clip, self._params.expected_batch)
        certified = GradientSpec(*terms, noise_multiplier=SIGMA, honest=HONEST)
        self._spec = make_spec(*terms, noise_multiplier=SIGMA, honest=HONEST)
        self._deviation = total_sigma(SIGMA, certified.sensitivity_grid) * certified.step

    def release(self, present: bool | None) -> Released:
        """See :class:`Bench`."""
        rows, patients = self._sample(present)
        spec, stream = self._spec, self._stream
        own = self._engine.gradient_sum(self._losses, rows, patients, grid_step=spec.step)
        total = spec.with_share(spec.cut(own), stream)
        for _ in range(HONEST - 1):
            total = total + spec.with_share(np.zeros_like(own), stream)
        return np.asarray(total * (spec.step / self._deviation), np.float64)

    def signal(self, present: bool | None) -> float:
        """See :class:`Bench`."""
        return super().signal(present) * self._params.clip / self._deviation


class _ReleaseBench(Bench):
    """A loss, a count and a histogram of patients who all add the most that they may, to the same cells."""

    def __init__(self, stream: SecureStream, release: Callable[..., Integers]) -> None:
        self._stream, self._release = stream, release
        self._spec = ReleaseSpec((Statistic("loss", 1, bound=4.0), Statistic("units", 1), Statistic("histogram", 8)))
        self._sensitivity = self._spec.l2_sensitivity_grid
        self._deviation = total_sigma(SIGMA, self._sensitivity)
        self.direction = self._exact(1) / np.linalg.norm(self._exact(1))

    def _exact(self, patients: int) -> Integers:
        bar = np.zeros((patients, 8))
        bar[:, 3] = 1.0
        blocks = {"loss": np.full((patients, 1), 1e3), "units": np.ones((patients, 1)), "histogram": bar}
        return self._spec.encode(blocks)

    def release(self, present: bool | None) -> Released:
        """See :class:`Bench`."""
        own = self._exact(0 if present is None else COMPANIONS - present)
        total = np.zeros_like(own)
        for values in (own, *([np.zeros_like(own)] * (HONEST - 1))):
            terms = {"l2_sensitivity_grid": self._sensitivity, "noise_multiplier": SIGMA, "honest": HONEST}
            total = total + self._release(values, stream=self._stream, **terms)
        return np.asarray(total / self._deviation, np.float64)

    def signal(self, present: bool | None) -> float:
        """See :class:`Bench`; here the patient is one of the companions, who is missing."""
        length = float(np.linalg.norm(self._exact(1))) / self._deviation
        return 0.0 if present is None else (COMPANIONS - present) * length

    def close(self) -> None:
        """Nothing was built."""
