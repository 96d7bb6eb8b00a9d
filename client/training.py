"""Training at one hospital: private steps from the global adapter, and what a strategy keeps of them here.

:class:`LocalTrainer` takes several noised steps and returns the clipped delta. Under ``secure-grad`` a hospital takes
no step of its own: :class:`GradientSummer` samples patients once, adds up their clipped gradients as integers and adds
its share of the noise; the server's optimizer moves the adapter by the sum of all.

:class:`LocalState` puts personal tensors, a local adapter, a control variate or a kept delta into the model before a
round's training and takes them out after it; :class:`LocalStore` keeps them under the same key as the journal. None of
it is ever sent as it is. A round *proposes* new values when its training has ended and *settles* when its result is
followed, because a value may depend on whether this hospital was in the sum: SCAFFOLD's variates at the hospitals must
add up to the coordinator's, so that of a hospital which dropped out stays as it was. Who was in the sum is kept as
well: a sum that follows it up has to be over the same hospitals. The settling is made durable before the journal names
the result. So after a crash at any write the store is at the journal's round or one ahead of it, and following that
round again changes nothing.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field, replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedward.adapter import AdapterLayout, Vector, flatten, unflatten
from fedward.client.models import adapter_model
from fedward.client.models.adapter_model import AdapterModel, adapter_parameters, get_vector, layout_of, set_vector
from fedward.client.models.inputs import calls_on
from fedward.client.records import Records
from fedward.client.tasks.task import LocalTask
from fedward.errors import IntegrityError, PolicyError, RunFailedError
from fedward.messages import MalformedMessageError
from fedward.plan import Plan
from fedward.privacy.dpsgd.clipping import DPParameters, planned_clipping
from fedward.privacy.dpsgd.engine import (
    Backend,
    PrivateEngine,
    UnitSampler,
    row_independence_self_test,
    rows_are_alike,
    sampler_self_test,
    weight_change_canary,
)
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.journal import Journal
from fedward.privacy.secagg.messages import SITE, Bytes, Counter, Map, Message, Sequence, Site
from fedward.run import Run
from fedward.storage import JournalError
from fedward.strategies.optimizers import Memory
from fedward.strategies.strategy import Kind, Step, kind_of, positions_of

LOG = logging.getLogger(__name__)
ROW_BYTES = 256 * 2**20
"""Gradients by record that are held at a time, whatever the rank of the adapter."""
ACTIVATION_BYTES = 4 * 2**30
"""Activations of a micro-batch that are kept for its backward pass; above, layers are computed again."""

BetweenSteps = Callable[[], None] | None
"""Called before each step; raises to stop (the kill switch)."""


@dataclass(eq=False, repr=False)
class LocalTerms:
    """``gradient + mu (w - w_round) + shift``, put in place just before the optimizer reads the gradient.

    The pull is the gradient of mu / 2 |w - w_round|^2 (FedProx, Li et al. 2020, https://arxiv.org/abs/1812.06127,
    equation 2). The shift is SCAFFOLD's c - c_i (Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378, equation
    3). Both are functions of weights and of earlier noised gradients alone. Added behind the noise they change neither
    what a patient can move nor what was drawn: the step stays post-processing of the same private gradient.
    """

    optimizer: InitVar[torch.optim.Optimizer]
    parameters: dict[str, nn.Parameter]  # trainable ones by layout name
    layout: AdapterLayout  # their order and shapes in a flat vector
    proximal: float  # mu; 0 leaves the gradient bit for bit alone

    def __post_init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._start: dict[str, torch.Tensor] = {}
        self._shift: dict[str, torch.Tensor] = {}
        self._total, self._steps = np.zeros(self.layout.size), 0
        self.attach(optimizer)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Hooks the terms to the steps of another optimizer, which holds some of the same parameters."""
        optimizer.register_step_pre_hook(lambda *_: self._apply())

    def begin(self, adapter: Vector, *, shift: Vector | None = None) -> None:
        """Begins a round's training at ``adapter`` float32 ``[P]``; ``shift`` ``[P]`` holds for all of its steps."""
        self._start = self._tensors(adapter)
        self._shift = {} if shift is None else self._tensors(shift)
        self._total, self._steps = np.zeros(self.layout.size), 0

    @property
    def mean_gradient(self) -> Vector:
        """Mean of the round's gradients as the engine released them, without the terms, float32 ``[P]``.

        Kept only in a round that has a shift, be it of zeros.
        """
        return (self._total / max(1, self._steps)).astype(np.float32)

    def _apply(self) -> None:
        with torch.no_grad():
            if self._shift:
                self._total += self._flat_gradient()
                self._steps += 1
            for name, parameter in self.parameters.items():
                if parameter.grad is None:  # a part that this step does not train
                    continue
                if self.proximal:
                    parameter.grad += self.proximal * (parameter - self._start[name])
                if self._shift:
                    parameter.grad += self._shift[name]

    def _flat_gradient(self) -> NDArray[np.float64]:
        parameters = [self.parameters[tensor.name] for tensor in self.layout.tensors]
        parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        return np.asarray(torch.cat(parts).double().cpu().numpy(), np.float64)

    def _tensors(self, vector: Vector) -> dict[str, torch.Tensor]:
        parts = unflatten(vector, self.layout)
        return {name: torch.tensor(part).to(self.parameters[name].device) for name, part in parts.items()}


class PrivateTraining(ABC):
    """One hospital's training patients under the plan's constants; nothing is taken from the data."""

    def __init__(
        self,
        model: AdapterModel,  # its trainable weights are overwritten by each round's adapter
        records: Records,  # of training patients
        run: Run,  # the resolved plan: clip, sampling rate and noise
        task: LocalTask,  # the loss of each record
        stream: SecureStream,  # noise and sampling; from the operating system except in marked non-private runs
        *,
        units_per_site: int | None = None,  # behind the denominator, if not the plan's (pooled comparison)
        federated: bool = True,  # False where there is no global adapter to stay close to, only the untrained start
        microbatch: int | None = None,  # records per forward pass at most; speed and memory only
        backend: Backend = "fast",  # how per-record gradients are computed; speed only
    ) -> None:
        privacy = run.plan.privacy
        self._model, self._records, self._run, self._task, self._stream = model, records, run, task, stream
        self._federated, self._microbatch, self._backend = federated, microbatch, backend
        self._parameters = DPParameters(
            noise_multiplier=privacy.noise_multiplier if privacy.private else 0.0,
            clip=privacy.clip,
            sampling_rate=privacy.sampling_rate,
            expected_batch=privacy.sampling_rate * (units_per_site or privacy.units_per_site),
            private=privacy.private,
            clipping=planned_clipping(privacy),
            max_records_per_unit=privacy.records_per_unit,
        )
        most = privacy.records_per_unit
        self._sampler = UnitSampler(records.units, privacy.sampling_rate, stream, max_records_per_unit=most)
        self._engine = self._open(self._begin())

    @abstractmethod
    def _begin(self) -> torch.optim.Optimizer:
        """Sets up what is trained first; returns the optimizer over it."""

    def preflight(self) -> None:
        """To be called before any budget is spent: rows do not mix, and the sampler is the one that is priced.

        Raises PreflightError FW-DP-010, FW-DP-015, FW-DP-017 (the printed epsilon would be wrong).
        """
        if self._run.plan.privacy.private:
            self._check_rows()
            sampler_self_test(self._sampler, self._run.plan.privacy.sampling_rate)

    def _check_rows(self) -> None:
        """Tests the engine, and lets every record be computed alone where company would alter a bit of its numbers."""
        groups = self._records_by_shape()
        records = groups[0] if groups else np.arange(min(3, len(self._records)))
        row_independence_self_test(self._engine, self._losses, records)
        if not all(rows_are_alike(self._engine, self._losses, group) for group in groups):
            LOG.warning("records are computed one by one: here a record's company alters its rounding errors")
            self._model.most_rows = 1

    def _records_by_shape(self) -> list[NDArray[np.int64]]:
        """Three records, or two, of each shape that records share, narrow ones first."""
        calls = calls_on(self._model, self._records.inputs)
        shapes, groups = self._records.inputs.shapes, dict[bytes, NDArray[np.int64]]()
        for call in calls:
            if len(call.positions) > 1:
                groups.setdefault(shapes[call.positions[0]].tobytes(), call.positions[:3])
        return list(groups.values())

    def _open(self, optimizer: torch.optim.Optimizer) -> PrivateEngine:
        """An engine over what the optimizer holds, in micro-batches whose gradients by record fit."""
        entries = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        most = max(1, ROW_BYTES // (4 * entries))
        microbatch = min(self._microbatch or most, most)
        self._model.most_rows = min(microbatch, self._model.most_rows or microbatch)
        self._model.recomputes = self._recomputes()
        return PrivateEngine(
            self._model,
            optimizer,
            self._parameters,
            self._stream,
            microbatch=microbatch,
            calls=lambda records: calls_on(self._model, self._records.inputs, records),
            backend=self._backend,
        )

    def _recomputes(self) -> bool:
        """Whether activations of the widest call would not fit.

        About 34 bytes a token, layer and unit of width in half precision (Korthikanti et al. 2022,
        https://arxiv.org/abs/2205.05198, equation 1 without attention), so twice as many here.
        """
        config, shapes = self._model.config, self._records.inputs.shapes
        tokens = max(
            (call.rows * int(shapes[call.positions[0]].sum()) for call in calls_on(self._model, self._records.inputs)),
            default=0,
        )
        layers = config.layers - self._model.lora.first_layer(config)
        needed = 2 * 34 * tokens * layers * config.hidden
        return config.family.layer_by_layer is not None and needed > ACTIVATION_BYTES

    def _losses(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return self._task.losses(self._model, self._records, rows)


class GradientSummer(PrivateTraining):
    """Sums one hospital's clipped patient gradients, once per round; see :class:`PrivateTraining`."""

    def _begin(self) -> torch.optim.Optimizer:
        # The engine sums in the order of the optimizer's parameters, which is made that of the adapter's layout. The
        # optimizer itself never steps.
        parameters = adapter_model.trainable(self._model)
        return torch.optim.SGD([parameters[tensor.name] for tensor in layout_of(self._model).tensors], lr=0.0)

    def run(self, adapter: Vector, *, honest: int, between_steps: BetweenSteps = None) -> NDArray[np.int64]:
        """One Poisson sample's clipped gradient sum at ``adapter`` float32 ``[P]``, int64 ``[P]``.

        With this hospital's noise share, of t - c = ``honest`` ones. Raises PrivacyParameterError (no honest share is
        certain, or the plan describes another number of parameters).
        """
        spec = self._run.gradient_spec(honest=honest)
        if between_steps is not None:
            between_steps()
        set_vector(self._model, adapter)
        rows, patients = self._sampler.sample()
        total = self._engine.gradient_sum(self._losses, rows, patients, grid_step=spec.step)
        return spec.with_share(spec.cut(total), self._stream)


class LocalTrainer(PrivateTraining):
    """Takes local private steps; see :class:`PrivateTraining`.

    A strategy may train another part of the adapter in the next round or step. Then the engine is closed and another
    one opened on exactly the parameters that are trained now: no parameter is ever noised that is not sent. The
    optimizer's moments live on from round to round; as functions of noised gradients they cost no privacy. They are
    forgotten where the strategy says that the basis of a factor has changed under them, and with the process.
    """

    def _begin(self) -> torch.optim.Optimizer:
        self._plan, self._strategy = self._run.plan, self._run.at_rank(layout_of(self._model))
        self._moments: dict[tuple[str, nn.Parameter], dict[str, torch.Tensor]] = {}
        self._steps = 0
        self._start: Vector | None = None  # where the last training began, which tells the basis of the moments
        self._kinds, self._purpose = self._strategy.trained(1, 0), "global"
        optimizer, parameters = self._optimizer(), adapter_model.trainable(self._model)
        proximal = self._plan.training.proximal if self._federated else 0.0
        self._terms = LocalTerms(optimizer, parameters, layout_of(self._model), proximal=proximal)
        return optimizer

    def run(
        self,
        adapter: Vector,
        steps: int,
        *,
        round_number: int = 1,
        shift: Vector | None = None,
        purpose: str = "global",
        between_steps: BetweenSteps = None,
    ) -> Vector:
        """Trains ``steps`` steps from ``adapter`` and returns the clipped delta, both float32 ``[P]``.

        The training round says what is trained. ``shift`` float32 ``[P]`` is added to each gradient behind the noise.
        Each ``purpose`` has optimizer moments of its own. Raises PreflightError FW-DP-016 (the very first step did not
        move what is trained), RunFailedError FW-RUN-010 (the delta is not finite).
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
            with _numbers_left():
                self._engine.step(self._losses, rows, patients)
            if self._steps == 1 and (rows.size or self._plan.privacy.private):
                weight_change_canary(before, self._trained_vector(), private=self._plan.privacy.private)
        return clip_delta(get_vector(self._model) - adapter, self._plan)

    @property
    def mean_gradient(self) -> Vector:
        """Mean of the last run's noised gradients, without shift and pull, float32 ``[P]``; kept if it had a shift."""
        return self._terms.mean_gradient

    def _check_rows(self) -> None:
        steps = range(min(2, self._plan.training.local_steps))
        for kinds in dict.fromkeys(self._strategy.trained(number, step) for number in (1, 2) for step in steps):
            self._use(kinds)
            super()._check_rows()

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
        state, every = adapter_model.trainable(self._model), adapter_parameters(self._model)
        kept = [p.detach().cpu().numpy().ravel() for name, p in every.items() if p.requires_grad and name not in state]
        return np.concatenate([sent, *kept])

    def _optimizer(self) -> torch.optim.Adam:
        """Adam on exactly ``self._kinds``, with the moments that their parameters had before."""
        adapter_model.train_only(self._model, self._kinds)
        moving = {name: p for name, p in adapter_parameters(self._model).items() if p.requires_grad}
        head = [parameter for name, parameter in moving.items() if kind_of(name) == "head"]
        lora = [parameter for name, parameter in moving.items() if kind_of(name) != "head"]
        rates = self._plan.training
        groups = [(head, rates.learning_rate_head), (lora, rates.learning_rate_lora)]
        optimizer = torch.optim.Adam([{"params": group, "lr": rate} for group, rate in groups if group])
        for parameter in moving.values():  # Adam fills these in place, so moments outlive the optimizer
            optimizer.state[parameter] = self._moments.setdefault((self._purpose, parameter), {})
        return optimizer

    def _forget(self, kinds: frozenset[Kind]) -> None:
        stale = [p for name, p in adapter_parameters(self._model).items() if kind_of(name) in kinds]
        for (_, moved), moments in self._moments.items():
            if any(moved is parameter for parameter in stale):
                moments.clear()


@contextmanager
def _numbers_left() -> Iterator[None]:
    """Names a step that is too long for any float as what it is: torch refuses it as a conversion."""
    try:
        yield
    except (RuntimeError, OverflowError) as error:
        if "overflow" not in str(error):
            raise
        raise _diverged() from error


def _diverged() -> RunFailedError:
    return RunFailedError("Training left the numbers that can be represented.", code="FW-RUN-010", of_records=True)


def clip_delta(delta: Vector, plan: Plan) -> Vector:
    """Scales ``delta`` to the plan's L2 norm and cuts entries at its bound, as the encoding requires."""
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    if not np.isfinite(norm):
        raise _diverged()
    scale = min(1.0, plan.secure_sum.delta_l2_clip / norm) if norm > 0 else 1.0
    return cut_entries(delta * np.float32(scale), plan.secure_sum.delta_bound, "what training changed")


def cut_entries(values: Vector, bound: float, what: str) -> Vector:
    """``values`` with every entry in [-bound, bound], as the encoding requires; the log here says how many were cut."""
    cut = int(np.count_nonzero(np.abs(values) > bound))
    if cut:
        LOG.warning("%s: %d of %d entries exceed the plan's bound of %g and were cut", what, cut, values.size, bound)
    kept: Vector = np.clip(values, -bound, bound).astype(np.float32, copy=False)
    return kept


VARIATE, LOCAL, PERSONAL, TRAINED = "variate", "local", "personal", "trained"
MAX_VECTOR_BYTES = 2 * 1024**3
RawVectors = Annotated[dict[str, bytes], Map(Bytes(0, MAX_VECTOR_BYTES), most=8)]
Vectors = Mapping[str, Vector]


class LocalState:
    """What one hospital keeps under one plan; for strategies that keep nothing it does nothing.

    ``name`` is the hospital's on the roster; ``model`` holds the personal tensors; ``size`` counts the entries of the
    state at its rank. The store takes the state slot of ``journal``, whose vectors are left alone. Raises
    IntegrityError FW-INTEGRITY-025 (what is stored cannot be read).
    """

    def __init__(self, name: str, run: Run, model: AdapterModel, size: int, journal: Journal) -> None:
        strategy, declared = run.strategy, run.strategy.declaration
        self._name, self._run, self._strategy, self._model, self._size = name, run, strategy, model, size
        self._depends = declared.variates or declared.personalises
        self._sums_again = run.sums > 1 and not declared.trains_in_every_phase
        self._store = LocalStore(journal, needed=self._depends) if self._depends or self._sums_again else None
        parameters = adapter_parameters(model)
        shapes = ((name, tuple(p.shape)) for name, p in parameters.items() if kind_of(name) in declared.personal)
        self._personal = AdapterLayout.of(shapes) if declared.personal else None
        self._untrained = self._taken_out()

    def follow(self, run: str, round_number: int, survivors: Collection[str]) -> None:
        """Settles what ``round_number`` of ``run`` proposed; called before the journal names its result."""
        if self._store is not None:
            step = self._run.step(round_number)
            ended = (TRAINED,) if step.opens or step.closes else ()
            self._store.begin(run)
            self._store.settle(round_number, survivors=survivors, site=self._name, drop=ended)

    def summed(self, run: str, round_number: int) -> frozenset[str]:
        """Hospitals in the sum of ``round_number``, of which a next sum was asked for.

        Raises PolicyError FW-POLICY-018 (not the last round that this hospital has followed, or its store is lost).
        """
        found = None if self._store is None else self._store.survivors(run, round_number)
        if found is None:
            raise PolicyError("This hospital does not know whose training the sum before was of.", code="FW-POLICY-018")
        return found

    def trained(self, run: str, round_number: int) -> Vector:
        """The delta that was in the sum of ``round_number``, the last one, float32 ``[size]``.

        Raises PolicyError FW-POLICY-018 (there is none here), IntegrityError FW-INTEGRITY-025 (of another adapter).
        """
        kept = self._store
        if kept is None or self._name not in self.summed(run, round_number) or not kept.holds(TRAINED):
            words = "This hospital holds no training of the round whose next sum was asked for."
            raise PolicyError(words, code="FW-POLICY-018")
        return kept.get(TRAINED, self._size)

    def ready(self, run: str, followed: int) -> None:
        """Before a round: makes sure that nothing was lost since round ``followed``, and fills the model.

        Raises IntegrityError FW-INTEGRITY-025 (the store is behind the journal, or of another adapter).
        """
        if self._store is None:
            return
        self._store.begin(run)
        if self._depends:
            self._store.require(followed)
        if self._personal is not None:
            kept = self._store.get(PERSONAL, self._personal.size, self._untrained)
            adapter_model.set_parameters(self._model, unflatten(kept, self._personal))

    def scored(self, state: Vector) -> Vector:
        """The state to score a patient with: with the weighted local adapter, where there is one."""
        if self._store is None or not self._strategy.declaration.local_adapter:
            return state
        weight = np.float32(self._strategy.personal_weight(self._run.plan))
        scored: Vector = state + weight * self._store.get(LOCAL, self._size)
        return scored

    def train(
        self, trainer: LocalTrainer, step: Step, state: Vector, memory: Memory, *, between_steps: BetweenSteps = None
    ) -> tuple[Vector, Vector | None]:
        """A protocol round's training from ``state``: the delta that is sent, and the change of the variate.

        Global steps come first, then those of the local adapter around the state that the round began with. ``state``
        is the global one at the model's rank, float32 ``[P]``.
        """
        run = partial(trainer.run, round_number=step.round, between_steps=between_steps)
        plan, strategy, kept = self._run.plan, self._strategy, self._store
        steps = plan.training.local_steps
        if kept is None:
            return run(state, steps), None
        always, if_summed, change = {}, {}, None
        if strategy.declaration.variates:
            variate = kept.get(VARIATE, self._size)
            delta = run(state, steps, shift=strategy.shift(memory, variate, self._name))
            change = clip_delta(trainer.mean_gradient - variate, plan)
            if_summed[VARIATE] = variate + change
        else:
            delta = run(state, steps)
        if self._personal is not None:
            always[PERSONAL] = self._taken_out()
        if strategy.declaration.local_adapter:
            local = kept.get(LOCAL, self._size)
            more = run(state + local, strategy.personal_steps(plan), purpose=LOCAL)
            always[LOCAL] = local + more
        if self._sums_again:
            if_summed[TRAINED] = delta
        kept.propose(step.number, always=always, if_summed=if_summed, drop=(TRAINED,))
        return delta, change

    def _taken_out(self) -> Vector:
        if self._personal is None:
            return np.empty(0, np.float32)
        parameters = adapter_parameters(self._model)
        arrays = {t.name: parameters[t.name].detach().cpu().numpy() for t in self._personal.tensors}
        return flatten(arrays, self._personal)


class Kept(Message):
    """The store's state; vectors are float32 little-endian."""

    LIMIT = 17 * MAX_VECTOR_BYTES

    run: Site = "none"
    settled: Counter = 0  # last round whose result was followed
    survivors: Annotated[tuple[str, ...], Sequence(SITE)] = ()  # hospitals in its sum
    vectors: RawVectors = field(default_factory=dict)  # values that hold
    proposed: Counter = 0  # round that has proposed others, 0 if none
    always: RawVectors = field(default_factory=dict)  # proposed values
    if_summed: RawVectors = field(default_factory=dict)  # those that hold only if this hospital is in the sum


class LocalStore:
    """Float32 vectors by name, in the state slot of ``journal``, whose vectors are left alone.

    ``needed`` says whether this hospital cannot go on without them; otherwise it begins with nothing if they are
    damaged. Raises IntegrityError FW-INTEGRITY-025 (what is stored cannot be read).
    """

    def __init__(self, journal: Journal, *, needed: bool = True) -> None:
        self._journal, self._kept = journal, Kept()
        try:
            saved = journal.load()
            if saved is not None:
                self._kept = Kept.from_bytes(saved)
        except (JournalError, MalformedMessageError) as error:
            if needed:
                words = "What this hospital kept of its training cannot be read."
                raise IntegrityError(words, code="FW-INTEGRITY-025") from error
            LOG.warning("what was kept of the last training cannot be read and is given up")

    def begin(self, run: str) -> None:
        """Starts ``run`` with nothing, unless the store is of this run already."""
        if self._kept.run != run:
            self._save(Kept(run))

    def require(self, round_number: int) -> None:
        """Raises IntegrityError FW-INTEGRITY-025 unless the store has followed the run up to ``round_number``."""
        if self._kept.settled < round_number:
            words = "What this hospital kept is of an earlier round than its journal."
            raise IntegrityError(words, code="FW-INTEGRITY-025")

    def survivors(self, run: str, round_number: int) -> frozenset[str] | None:
        """Hospitals in the sum of ``round_number``, if it is the last round of ``run`` that was followed here."""
        kept = self._kept
        return frozenset(kept.survivors) if (kept.run, kept.settled) == (run, round_number) else None

    def holds(self, name: str) -> bool:
        """Whether there is a value of ``name``."""
        return name in self._kept.vectors

    def get(self, name: str, size: int, initial: Vector | None = None) -> Vector:
        """The value of ``name`` float32 ``[size]``; ``initial``, or zeros, before the first proposal.

        Raises IntegrityError FW-INTEGRITY-025 (the stored value has another size).
        """
        raw = self._kept.vectors.get(name)
        if raw is None:
            return np.zeros(size, np.float32) if initial is None else initial
        if len(raw) != 4 * size:
            raise IntegrityError("What this hospital kept is of another adapter.", code="FW-INTEGRITY-025")
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)

    def propose(self, number: int, *, always: Vectors, if_summed: Vectors, drop: Collection[str] = ()) -> None:
        """Makes the values durable that round ``number`` led to when its training had ended.

        ``always`` hold once the round has ended, whoever was in its sum; ``if_summed`` only if this hospital was. The
        values named in ``drop`` have ended by now, whatever comes of the round.
        """
        kept = replace(self._kept, vectors=self._without(drop), proposed=number)
        self._save(replace(kept, always=_raw(always), if_summed=_raw(if_summed)))

    def settle(self, round_number: int, *, survivors: Collection[str], site: str, drop: Collection[str] = ()) -> None:
        """Takes over what ``round_number`` proposed; a second time, or for a round that proposed nothing, harmless.

        ``survivors`` are the hospitals in its sum, ``site`` is this one; the values named in ``drop`` end with it.
        """
        kept, vectors = self._kept, self._without(drop)
        if round_number <= kept.settled:
            return
        if 0 < kept.proposed <= round_number:  # less where a round was lost between: nobody was in its sum
            vectors |= kept.always
        if site in survivors and kept.proposed == round_number:
            vectors |= kept.if_summed
        self._save(Kept(kept.run, round_number, tuple(sorted(survivors)), vectors))

    def _save(self, kept: Kept) -> None:
        self._journal.save(kept.to_bytes())
        self._kept = kept

    def _without(self, names: Collection[str]) -> dict[str, bytes]:
        return {name: vector for name, vector in self._kept.vectors.items() if name not in names}


def _raw(vectors: Vectors) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(vector, dtype="<f4").tobytes() for name, vector in sorted(vectors.items())}
