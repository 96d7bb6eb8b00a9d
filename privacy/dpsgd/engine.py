"""One private training step: sample patients, clip each patient's gradient, add noise, divide by a constant.

Abadi et al. 2016, algorithm 1, with the patient instead of the example as the unit and Poisson sampling over patients.
The engine is closed: it refuses a model, a loss or a batch for which the printed epsilon would be wrong. The self-tests
run before budget is spent, turn ways of printing a false epsilon into an error, and say pass or fail, no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import nn

from fedward.errors import ConfigError, PreflightError
from fedward.privacy.dpsgd.backends import FastRows, OpacusHooks, trainable_layers, unsupported
from fedward.privacy.dpsgd.clipping import AdaptiveClipping, DPParameters, PatientOptimizer
from fedward.privacy.noise import Integers, SecureStream, UnsafeSeededStream, poisson_sample

wrong_batch = partial(PreflightError, code="FW-DP-013")
not_moved = partial(PreflightError, code="FW-DP-016")
rows_mix = partial(PreflightError, code="FW-DP-015")
wrong_sampler = partial(PreflightError, code="FW-DP-017")


@dataclass(frozen=True)
class Call:
    """Some records of one shape, by their positions among those that were asked for."""

    positions: Integers  # [n]
    rows: int  # at least n

    @property
    def filled(self) -> Integers:
        """Positions of all rows, ``[rows]``: the last one fills those that are left."""
        return np.append(self.positions, np.full(self.rows - len(self.positions), self.positions[-1]))


Calls = Callable[[Integers], Sequence[Call]]
"""Maps record numbers ``[b]`` to the calls that compute them, each record once."""


class UnitSampler:
    """Draws batches by including each patient independently; the batch size is random and may be zero.

    Clipping bounds a patient's whole contribution, so the guarantee is the patient's. Sampling notes instead of
    patients would only give a guarantee per note: with 20 notes of one patient its epsilon is many times larger. At
    most ``max_records_per_unit`` records of a sampled patient are taken, chosen uniformly anew each time.
    """

    sampler_name = "poisson"

    def __init__(
        self, patients: Integers, sampling_rate: float, stream: SecureStream, *, max_records_per_unit: int = 1
    ) -> None:
        if patients.ndim != 1 or max_records_per_unit < 1:
            raise wrong_batch("The sampler needs one unit number per record and at least one record each.")
        self._rate, self._stream, self._limit = sampling_rate, stream, max_records_per_unit
        self._order = np.argsort(patients, kind="stable").astype(np.int64)
        self._ids, first, self._counts = np.unique(patients[self._order], return_index=True, return_counts=True)
        self._first = first.astype(np.int64)
        self.patient_count = int(self._ids.size)  # not for release: it is data

    def sample(self) -> tuple[Integers, Integers]:
        """``(records, patients)``, int64 ``[b]`` each, grouped by patient; ``b`` may be 0."""
        chosen = np.flatnonzero(poisson_sample(self._stream, self._ids.size, self._rate))
        records = [np.empty(0, np.int64), *map(self._records_of, chosen)]
        sizes = [part.size for part in records[1:]]
        return np.concatenate(records), np.repeat(self._ids[chosen], sizes).astype(np.int64)

    def _records_of(self, index: np.int64) -> Integers:
        start, count = self._first[index], int(self._counts[index])
        own = self._order[start : start + count]
        if count <= self._limit:
            return own
        keys = self._stream.uint64(count)
        return np.sort(own[np.argsort(keys, kind="stable")[: self._limit]])


Backend = Literal["fast", "opacus-hooks"]
LossPerRecord = Callable[[Integers], torch.Tensor]
"""Maps record numbers ``[b]`` to one loss each ``[b]``; row i may depend on record i alone."""
GradientBackend: TypeAlias = FastRows | OpacusHooks
Floats: TypeAlias = NDArray[np.float32]


class PrivateEngine:
    """Takes private steps on a model; FW-DP-010 where a trainable parameter has no rule or is not the optimizer's."""

    def __init__(
        self,
        model: nn.Module,  # only its LoRA matrices and linear heads may be trainable
        optimizer: torch.optim.Optimizer,  # plain, over exactly the trainable parameters
        params: DPParameters,
        stream: SecureStream,  # source of the noise
        *,
        microbatch: int | None = None,  # records (whole patients) whose gradients are held at a time; None: all
        calls: Calls | None = None,  # which of them go through the model together, in which shapes; None: all at once
        backend: Backend = "opacus-hooks",  # how per-record gradients are computed; no choice changes the guarantee
    ) -> None:
        self.layers = trainable_layers(model)
        self.model, self.params = model, params
        self.steps_taken = 0
        self._microbatch, self._seeded = microbatch, isinstance(stream, UnsafeSeededStream)
        self._calls = _all_at_once if calls is None else calls
        self._optimizer = PatientOptimizer(optimizer, params, stream)
        trained = {id(p) for p in model.parameters() if p.requires_grad}
        held = [id(p) for p in self._optimizer.params]
        if trained != set(held) or len(held) != len(trained):
            raise unsupported("The optimizer does not hold exactly the trainable parameters of the model.")
        self._backend = _backend(backend, model, self.layers, self._optimizer) if params.private else None

    def step(self, loss_per_record: LossPerRecord, records: Integers, patients: Integers) -> None:
        """Takes one step on a Poisson sample of patients: records ``[b]`` and the patient number of each, ``[b]``.

        An empty sample is a step like any other: noise is added and the optimizer moves, but the model is not called.

        Raises FW-DP-013 (too many records of one patient, or the arrays do not match), FW-DP-012 (the loss is not one
        number per record), FW-DP-011 (a trainable parameter took no part in the loss).
        """
        self._begin_step(records, patients)
        for part in self._parts(records, patients):
            self._backpropagate(loss_per_record, records[part])
            if self._backend is not None:
                self._optimizer.clip_and_accumulate(patients[part])
        if self.params.private:
            self._optimizer.finish()
            return
        for parameter in self._optimizer.params:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad /= self.params.expected_batch
        self._optimizer.original_optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def gradient_sum(
        self, loss_per_record: LossPerRecord, records: Integers, patients: Integers, *, grid_step: float
    ) -> Integers:
        """Sum of the patients' clipped gradients in grid units, *without noise*, int64 ``[P]``; moves no weight.

        For a placement that adds its noise to the sum of several hospitals; patient data, which must not leave without
        it. One call counts as one step, and an empty sample gives zeros. Without privacy the gradients are not clipped
        and the sum is rounded once. Entries are in the order of the optimizer's parameters.

        Raises FW-DP-011, FW-DP-012, FW-DP-013 as :meth:`step` does, FW-DP-019 (clipping adapts, but the count that it
        would adapt to has no noise here).
        """
        if self.params.private and isinstance(self.params.clipping, AdaptiveClipping):
            raise ConfigError("A gradient sum without noise cannot pay for a noised count of units.", code="FW-DP-019")
        self._begin_step(records, patients)
        total = np.zeros(sum(p.numel() for p in self._optimizer.params), np.int64)
        for part in self._parts(records, patients):
            self._backpropagate(loss_per_record, records[part])
            if self._backend is not None:
                total += self._optimizer.clipped_grid_sum(patients[part], grid_step=grid_step)
        if self._backend is None and records.size:
            plain = torch.cat([p.grad.flatten() for p in self._optimizer.params]).double()
            total += np.rint(plain.cpu().numpy() / grid_step).astype(np.int64)
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def gradients(
        self, loss_per_record: LossPerRecord, records: Integers, *, training: bool = False
    ) -> tuple[Floats, Floats]:
        """Per-record losses ``[b]`` and unclipped gradients ``[b, P]``, for self-tests; without dropout by default.

        The result is patient data: it must not leave the process, and nothing may be computed from it but pass or fail.
        """
        if self._backend is None:
            raise unsupported("An engine without privacy computes no per-record gradients.")
        self._optimizer.zero_grad(set_to_none=True)
        self.model.train(training)
        for layer in self.layers.values():
            layer.train()  # the backends record trainable layers in training mode only
        losses = self._backpropagate(loss_per_record, records)
        rows = [p.grad_sample.flatten(start_dim=1).float() for p in self._optimizer.params]
        self._optimizer.zero_grad(set_to_none=True)
        return losses.float().cpu().numpy(), torch.cat(rows, dim=1).cpu().numpy()

    def plain_gradient(self, loss_per_record: LossPerRecord, records: Integers, *, training: bool = False) -> Floats:
        """Gradient ``[P]`` of the summed losses by ordinary back-propagation, for self-tests like :meth:`gradients`."""
        self._optimizer.zero_grad(set_to_none=True)
        self.model.train(training)
        for call in self._calls(records):
            self._losses_of(loss_per_record, records, call)[: len(call.positions)].sum().backward()
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self._optimizer.params]
        plain = np.asarray(torch.cat(parts).cpu().numpy())
        self._optimizer.zero_grad(set_to_none=True)
        return plain

    @property
    def clip(self) -> float:
        """C of the coming step: the plan's, or what the noised counts have made of it. Public like the adapter."""
        return float(self._optimizer.max_grad_norm)

    @property
    def non_private_reasons(self) -> tuple[str, ...]:
        """Why the result is not differentially private; empty if it is."""
        reasons = {"no clipping and no noise": not self.params.private, "seeded noise": self._seeded}
        return tuple(reason for reason, holds in reasons.items() if holds)

    def close(self) -> None:
        """Removes everything the engine has attached to the model."""
        if self._backend is not None:
            self._backend.detach()
            self._backend = None
        for parameter in self._optimizer.params:
            for name in ("grad_sample", "summed_grad"):
                parameter.__dict__.pop(name, None)

    def __enter__(self) -> PrivateEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_step(self, records: Integers, patients: Integers) -> None:
        if records.ndim != 1 or records.shape != patients.shape or len(np.unique(records)) != len(records):
            raise wrong_batch("A batch needs distinct record numbers and one unit number for each.")
        _, counts = np.unique(patients, return_counts=True)
        if counts.size and counts.max() > self.params.max_records_per_unit:
            raise wrong_batch("A batch holds more records of one unit than the plan allows.")
        self.steps_taken += 1
        self._optimizer.zero_grad(set_to_none=True)
        self.model.train()

    def _parts(self, records: Integers, patients: Integers) -> Iterator[Integers]:
        """Positions of the records whose gradients are held at a time: whole patients, in as few calls as they fill."""
        if self.params.max_records_per_unit > 1:
            yield from _whole_patients(patients, self._microbatch)
            return
        for call in self._calls(records):
            yield from (call.positions[part] for part in _whole_patients(patients[call.positions], self._microbatch))

    def _losses_of(self, loss_per_record: LossPerRecord, records: Integers, call: Call) -> torch.Tensor:
        """The losses of every row of a call."""
        return _one_loss_each(loss_per_record(records[call.filled]), call.rows)

    def _backpropagate(self, loss_per_record: LossPerRecord, records: Integers) -> torch.Tensor:
        """Fills each parameter's rows, or without privacy adds to its ordinary gradient; returns the losses ``[b]``."""
        losses, held = [], []
        for call in self._calls(records):
            count = len(call.positions)
            if self._backend is None:
                found = self._losses_of(loss_per_record, records, call)[:count]
                found.sum().backward()
            else:
                found = self._backend.backward(partial(self._losses_of, loss_per_record, records, call), call.rows)
                held.append([rows[:count] for rows in self._rows(call.rows)])
            losses.append(found[:count].detach())
        order = np.concatenate([call.positions for call in self._calls(records)])
        if held:
            for parameter, parts in zip(self._optimizer.params, zip(*held, strict=True), strict=True):
                parameter.grad_sample = _in_order(list(parts), order)
        return _in_order(losses, order)

    def _rows(self, rows: int) -> list[torch.Tensor]:
        """What the backend has left for each parameter, ``[rows, *shape]``, taken off the parameter."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        found = []
        for parameter in self._optimizer.params:
            parameter.grad = None  # the backend may leave the batch gradient here; only clipped rows count
            filled, name = getattr(parameter, "grad_sample", None), names[id(parameter)]
            if filled is None:
                raise PreflightError(f"The trainable parameter {name} took no part in the loss.", code="FW-DP-011")
            if not isinstance(filled, torch.Tensor) or filled.shape[0] != rows:
                raise unsupported(f"The parameter {name} has no gradient for each record of the batch.")
            parameter.grad_sample = None
            found.append(filled)
        return found


def _all_at_once(records: Integers) -> list[Call]:
    return [Call(np.arange(len(records), dtype=np.int64), len(records))]


def _in_order(parts: list[torch.Tensor], order: Integers) -> torch.Tensor:
    """Rows of successive calls as one tensor in the order that was asked for; no copy where there is one call."""
    if len(parts) == 1 and bool((np.diff(order) > 0).all()):
        return parts[0]
    turned = parts[0].dim() == 3 and not parts[0].is_contiguous()
    back = torch.from_numpy(np.argsort(order)).to(parts[0].device)
    joined = torch.cat([part.mT if turned else part for part in parts])[back]
    return joined.mT if turned else joined


def _backend(
    name: Backend, model: nn.Module, layers: dict[str, nn.Linear], optimizer: PatientOptimizer
) -> GradientBackend:
    if hasattr(model, "autograd_grad_sample_hooks") or any("forward" in layer.__dict__ for layer in layers.values()):
        raise unsupported("Another engine is still attached to the model.", fix="Close it first.")
    if name == "fast":
        return FastRows(layers, list(optimizer.params))
    if name == "opacus-hooks":
        return OpacusHooks(model)
    raise unsupported(f"There is no gradient backend named {name!r}.")


def _whole_patients(patients: Integers, limit: int | None) -> Iterator[Integers]:
    """Yields row positions in micro-batches of at most ``limit`` records that never split a patient."""
    order = np.argsort(patients, kind="stable").astype(np.int64)
    if order.size == 0:
        return
    if limit is None:
        yield order
        return
    starts = np.flatnonzero(np.diff(patients[order], prepend=patients[order[0]] - 1))
    begin = 0
    for position, end in pairwise([*starts.tolist(), int(order.size)]):
        if end - begin > limit and position > begin:
            yield order[begin:position]
            begin = position
    yield order[begin:]


def _one_loss_each(losses: torch.Tensor, rows: int) -> torch.Tensor:
    if not isinstance(losses, torch.Tensor) or losses.shape != (rows,) or not losses.requires_grad:
        raise PreflightError("The loss is not a differentiable vector with one number per record.", code="FW-DP-012")
    return losses


def rows_are_alike(
    engine: PrivateEngine, loss_per_record: LossPerRecord, records: Integers, *, tolerance: float = 1e-3
) -> bool:
    """Whether losses and gradients of the last of some records of one call have the same bits alone and in company.

    Alone a record fills all rows of its call, and in company those behind the others. The trainable weights are
    perturbed as in :func:`row_independence_self_test`. Raises FW-DP-015 if the difference is no rounding.
    """
    with _perturbed(engine):
        together, alone = (engine.gradients(loss_per_record, each, training=True) for each in (records, records[-1:]))
    pairs = [(left[-1:], right) for left, right in zip(together, alone, strict=True)]
    if not all(_close(left, right, tolerance) for left, right in pairs):
        raise rows_mix("The loss or gradient of a record changes with the other records of its batch.")
    return all(np.array_equal(left, right) for left, right in pairs)


def row_independence_self_test(
    engine: PrivateEngine, loss_per_record: LossPerRecord, records: Integers, *, tolerance: float = 1e-3
) -> None:
    """Compares losses and gradients of records in one batch with those of each record alone, and with their sum.

    The sum is taken by ordinary back-propagation: a weight that is also used where no rule sees it has more gradient
    than its rows add up to. The trainable weights are perturbed for the test and restored: at the usual start, with B =
    0, the gradient of every A is zero and would agree with anything. All is compared without dropout, and again in
    training mode unless the model draws random numbers there, which no two passes share. Three of at least two distinct
    records are used. The relative ``tolerance`` is the same for every precision of the base model, because alone and in
    company a record is computed in the same shapes; ADR 0012 has what was measured.

    Raises FW-DP-015 (a row depends on its companions), FW-DP-010 (rows do not add up, or the model keeps what it sees).
    """
    chosen = np.unique(records)[:3]
    if chosen.size < 2:
        raise rows_mix("The row independence test needs at least two records.", fix="Give it two records.")
    with _perturbed(engine) as buffers:
        _compare_rows(engine, loss_per_record, chosen, tolerance, training=False)
        losses, again = (engine.gradients(loss_per_record, chosen, training=True)[0] for _ in range(2))
        if any(not torch.equal(now, before) for now, before in zip(engine.model.buffers(), buffers, strict=True)):
            raise unsupported("The model keeps numbers of the records it sees, to which no noise is added.")
        if _close(losses, again, 1e-6):
            _compare_rows(engine, loss_per_record, chosen, tolerance, training=True)


def _compare_rows(
    engine: PrivateEngine, loss_per_record: LossPerRecord, chosen: Integers, tolerance: float, *, training: bool
) -> None:
    together, batch = engine.gradients(loss_per_record, chosen, training=training)
    for row, record in enumerate(chosen):
        alone, single = engine.gradients(loss_per_record, np.array([record]), training=training)
        if not _close(together[row : row + 1], alone, tolerance) or not _close(batch[row], single[0], tolerance):
            raise rows_mix("The loss or gradient of a record changes with the other records of its batch.")
    if not _close(batch.sum(axis=0), engine.plain_gradient(loss_per_record, chosen, training=training), tolerance):
        raise unsupported("A trainable weight is also used outside its layer's forward.")


def weight_change_canary(before: Floats, after: Floats, *, private: bool) -> None:
    """Compares the weights that would be exported before and after the first step; raises FW-DP-016 if too few moved.

    With privacy noise reaches every entry, so most entries must have moved; without noise one is enough.
    """
    if before.shape != after.shape or not np.isfinite(after).all():
        raise not_moved("The exported weights are not finite or changed their shape in the first step.")
    moved = float(np.mean(before != after)) if before.size else 0.0
    if moved == 0.0 or (private and moved < 0.5):
        raise not_moved("The exported weights did not move in the first step.")


LOOK_BACK = 20
"""Draws whose members are compared with those of a later one."""
NEVER = 1e-9
"""Chance with which a sound sampler fails one of the three questions about its members."""


def sampler_self_test(sampler: UnitSampler, sampling_rate: float, *, draws: int = 400) -> None:
    """Draws trial batches and checks their sizes, who is in them, and that no draw tells of another; FW-DP-017.

    Shuffled batches of fixed size have no variance; a wrong rate shifts the mean. Each unit is included as often as a
    coin of the plan's rate falls, and whoever was in one batch is in none of the next 20 more or less often. A sound
    sampler fails with probability below 1e-7. What it can see stands in ``docs/audit.md``.
    """
    if sampler.sampler_name != "poisson":
        raise wrong_sampler("The sampler does not declare Poisson sampling.")
    members = [np.unique(sampler.sample()[1]) for _ in range(draws)]
    count, sizes = sampler.patient_count, np.array([units.size for units in members], np.float64)
    variance = count * sampling_rate * (1 - sampling_rate)
    if abs(sizes.mean() - count * sampling_rate) > 6 * np.sqrt(variance / draws) + 1e-9:
        raise wrong_sampler("The sampler does not include units at the plan's rate.")
    # The kurtosis term keeps the bound valid for very small expected batches, where counts are far from normal.
    spread = 6 * np.sqrt((2 * variance**2 + variance) / draws)
    if abs(sizes.var() - variance) > spread + 1e-9:
        raise wrong_sampler("The number of sampled units does not vary as under Poisson sampling.")
    _check_members(members, count, sampling_rate)


def _check_members(members: list[Integers], count: int, rate: float) -> None:
    """Looks at who is drawn; ``members`` are the units of each draw."""
    _, places = np.unique(np.concatenate(members), return_inverse=True)
    times, draws = np.bincount(places, minlength=count), len(members)
    if times.size > count:
        raise wrong_sampler("The sampler includes units that it does not know.")
    if min(binom.sf(times.max() - 1, draws, rate), binom.cdf(times.min(), draws, rate)) * 2 * count < NEVER:
        raise wrong_sampler("The sampler includes some unit at another rate than the plan's.")
    seen, held = np.zeros((draws, count), np.float32), np.split(places, np.cumsum([m.size for m in members])[:-1])
    for row, own in zip(seen, held, strict=True):
        row[own] = 1.0
    seen -= rate
    # Products of independent coins have mean 0 and this variance; Bernstein's inequality bounds rare ones, too.
    once = (rate * (1 - rate)) ** 2
    for back in range(1, min(LOOK_BACK, draws - 1) + 1):
        terms, reach = (draws - back) * count, math.log(2 * LOOK_BACK / NEVER)
        limit = math.sqrt(2 * terms * once * reach) + reach / 3
        if abs(float((seen[back:] * seen[:-back]).sum(dtype=np.float64))) > limit + 1e-3:
            raise wrong_sampler("Who is drawn depends on who was drawn before.")


def _close(left: Floats, right: Floats, tolerance: float) -> bool:
    scale = max(float(np.linalg.norm(left)), float(np.linalg.norm(right)), 1e-6)
    return bool(np.linalg.norm(left - right) <= tolerance * scale)


@contextmanager
def _perturbed(engine: PrivateEngine) -> Iterator[list[torch.Tensor]]:
    """Moves the trainable weights off their initial zeros, and yields the buffers; puts all back whatever happens."""
    trained = [p for p in engine.model.parameters() if p.requires_grad]
    saved = [p.detach().clone() for p in trained]
    buffers = [buffer.clone() for buffer in engine.model.buffers()]
    modes: list[tuple[torch.nn.Module, bool]] = [(m, m.training) for m in engine.model.modules()]
    noise = np.random.Generator(np.random.Philox(0))
    try:
        with torch.no_grad():
            for p in trained:
                p.add_(torch.from_numpy(noise.normal(0.0, 0.05, tuple(p.shape)).astype(np.float32)).to(p.device))
        yield buffers
    finally:
        with torch.no_grad():
            for now, value in [*zip(trained, saved, strict=True), *zip(engine.model.buffers(), buffers, strict=True)]:
                now.copy_(value)
        for module, mode in modes:
            module.training = mode
