"""Local state of a strategy at one hospital: personal tensors, a local adapter, a control variate, a kept delta.

They are put into the model before a round's training, taken out after it (:class:`LocalState`), and kept
(:class:`LocalStore`) under the same key as the journal. None of it is ever sent as it is: it was computed from noised
gradients, like everything that training leaves behind. For strategies that keep nothing, nothing here does anything.

A round *proposes* new values when its training has ended and *settles* when its result is followed. A value may depend
on whether this hospital was in the sum: SCAFFOLD's variates at the hospitals must add up to the coordinator's, so that
of a hospital which dropped out stays as it was. Who was in the sum is kept as well: a sum that follows it up has to be
over the same hospitals. The settling is made durable before the journal names the result. So after a crash at any
write the store is at the journal's round or one ahead of it, and following that round again changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, replace
from functools import partial
from typing import Annotated

import numpy as np

from fedward.adapter import AdapterLayout, Vector, flatten, unflatten
from fedward.client.models.adapter_model import AdapterModel, adapter_parameters, set_parameters
from fedward.client.training import LocalTrainer, clip_delta
from fedward.errors import IntegrityError, PolicyError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import Journal
from fedward.privacy.secagg.messages import SITE, Bytes, Counter, Map, Message, Sequence, Site
from fedward.run import Run
from fedward.storage import JournalError
from fedward.strategies.optimizers import Memory
from fedward.strategies.strategy import Step, kind_of

LOG = logging.getLogger(__name__)

VARIATE, LOCAL, PERSONAL, TRAINED = "variate", "local", "personal", "trained"


class LocalState:
    """What one hospital keeps under one plan.

    Args:
        name: of the hospital, as on the roster.
        run: the approved plan, resolved.
        model: the model it trains; holds the personal tensors.
        size: entries of the state at the model's rank.
        journal: whose state slot the local store take; vectors in it are left alone.

    Raises:
        IntegrityError: FW-INTEGRITY-025, what is stored cannot be read.
    """

    def __init__(self, name: str, run: Run, model: AdapterModel, size: int, journal: Journal) -> None:
        strategy, declared = run.strategy, run.strategy.declaration
        self._name, self._run = name, run
        self._strategy, self._model, self._size = strategy, model, size
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

        Raises:
            PolicyError: FW-POLICY-018, it is not the last round that this hospital has followed, or its store is lost.
        """
        found = None if self._store is None else self._store.survivors(run, round_number)
        if found is None:
            raise PolicyError("This hospital does not know whose training the sum before was of.", code="FW-POLICY-018")
        return found

    def trained(self, run: str, round_number: int) -> Vector:
        """The delta that was in the sum of ``round_number``, the last one, float32 ``[size]``.

        Raises:
            PolicyError: FW-POLICY-018, there is none here.
            IntegrityError: FW-INTEGRITY-025, it is of another adapter.
        """
        kept = self._store
        if kept is None or self._name not in self.summed(run, round_number) or not kept.holds(TRAINED):
            raise PolicyError(
                "This hospital holds no training of the round whose next sum was asked for.", code="FW-POLICY-018"
            )
        return kept.get(TRAINED, self._size)

    def ready(self, run: str, followed: int) -> None:
        """Before a round: makes sure that nothing was lost since round ``followed``, and fills the model.

        Raises:
            IntegrityError: FW-INTEGRITY-025, the store is behind the journal, or of another adapter.
        """
        if self._store is None:
            return
        self._store.begin(run)
        if self._depends:
            self._store.require(followed)
        if self._personal is not None:
            kept = self._store.get(PERSONAL, self._personal.size, self._untrained)
            set_parameters(self._model, unflatten(kept, self._personal))

    def scored(self, state: Vector) -> Vector:
        """The state to score a patient with: with the weighted local adapter, where there is one."""
        if self._store is None or not self._strategy.declaration.local_adapter:
            return state
        weight = np.float32(self._strategy.personal_weight(self._run.plan))
        scored: Vector = state + weight * self._store.get(LOCAL, self._size)
        return scored

    def train(
        self,
        trainer: LocalTrainer,
        step: Step,
        state: Vector,
        memory: Memory,
        *,
        between_steps: Callable[[], None] | None = None,
    ) -> tuple[Vector, Vector | None]:
        """A round's training: the delta that is sent, and the change of the variate.

        Global steps come first, then those of the local adapter around the state that the round began with.

        Args:
            trainer: of this hospital.
            step: the protocol round.
            state: the global state at the model's rank, float32 ``[P]``.
            memory: the global memory.
            between_steps: see :meth:`LocalTrainer.run`.
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


MAX_VECTOR_BYTES = 2 * 1024**3
Vectors = Annotated[dict[str, bytes], Map(Bytes(0, MAX_VECTOR_BYTES), most=8)]


class Kept(Message):
    """The store's state.

    Attributes:
        run: name of the run.
        settled: last round whose result was followed.
        survivors: hospitals in its sum.
        vectors: values that hold, float32 little-endian.
        proposed: round that has proposed others, 0 if none.
        always, if_summed: proposed values, and those that hold only if this hospital is in the sum.
    """

    LIMIT = 17 * MAX_VECTOR_BYTES

    run: Site = "none"
    settled: Counter = 0
    survivors: Annotated[tuple[str, ...], Sequence(SITE)] = ()
    vectors: Vectors = field(default_factory=dict)
    proposed: Counter = 0
    always: Vectors = field(default_factory=dict)
    if_summed: Vectors = field(default_factory=dict)


class LocalStore:
    """Float32 vectors by name.

    Args:
        journal: whose state slot they take; its vectors are left alone. In memory for simulation and tests.
        needed: whether this hospital cannot go on without them; otherwise it begins with nothing if they are damaged.

    Raises:
        IntegrityError: FW-INTEGRITY-025, what is stored cannot be read.
    """

    def __init__(self, journal: Journal, *, needed: bool = True) -> None:
        self._journal, self._kept = journal, Kept()
        try:
            saved = journal.load()
            if saved is not None:
                self._kept = Kept.from_bytes(saved)
        except (JournalError, MalformedMessageError) as error:
            if needed:
                raise IntegrityError(
                    "What this hospital kept of its training cannot be read.", code="FW-INTEGRITY-025"
                ) from error
            LOG.warning("what was kept of the last training cannot be read and is given up")

    def begin(self, run: str) -> None:
        """Starts ``run`` with nothing, unless the store is of this run already."""
        if self._kept.run != run:
            self._save(Kept(run))

    def require(self, round_number: int) -> None:
        """Checks that the store has followed the run as far as the journal.

        Raises:
            IntegrityError: FW-INTEGRITY-025, it is of an earlier round, or empty.
        """
        if self._kept.settled < round_number:
            raise IntegrityError(
                "What this hospital kept is of an earlier round than its journal.", code="FW-INTEGRITY-025"
            )

    def survivors(self, run: str, round_number: int) -> frozenset[str] | None:
        """Hospitals in the sum of ``round_number``, if it is the last round of ``run`` that was followed here."""
        kept = self._kept
        return frozenset(kept.survivors) if (kept.run, kept.settled) == (run, round_number) else None

    def holds(self, name: str) -> bool:
        """Whether there is a value of ``name``."""
        return name in self._kept.vectors

    def get(self, name: str, size: int, initial: Vector | None = None) -> Vector:
        """The value of ``name`` float32 ``[size]``; ``initial``, or zeros, before the first proposal.

        Raises:
            IntegrityError: FW-INTEGRITY-025, the stored value has another size.
        """
        raw = self._kept.vectors.get(name)
        if raw is None:
            return np.zeros(size, np.float32) if initial is None else initial
        if len(raw) != 4 * size:
            raise IntegrityError("What this hospital kept is of another adapter.", code="FW-INTEGRITY-025")
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)

    def propose(
        self,
        round_number: int,
        *,
        always: Mapping[str, Vector],
        if_summed: Mapping[str, Vector],
        drop: Collection[str] = (),
    ) -> None:
        """Makes the values durable that ``round_number`` led to.

        Args:
            round_number: the round whose training has ended.
            always: values that hold once the round has ended, whoever was in its sum.
            if_summed: values that hold only if this hospital was.
            drop: names whose values have ended by now, whatever comes of the round.
        """
        vectors = _without(self._kept.vectors, drop)
        self._save(
            replace(self._kept, vectors=vectors, proposed=round_number, always=_raw(always), if_summed=_raw(if_summed))
        )

    def settle(self, round_number: int, *, survivors: Collection[str], site: str, drop: Collection[str] = ()) -> None:
        """Takes over what ``round_number`` proposed; a second time, or for a round that proposed nothing, harmless.

        Args:
            round_number: the round whose result is followed.
            survivors: hospitals in its sum.
            site: this hospital.
            drop: names whose values end with it.
        """
        kept, summed = self._kept, site in survivors
        if round_number <= kept.settled:
            return
        vectors = _without(kept.vectors, drop)
        if 0 < kept.proposed <= round_number:  # less where a round was lost between: nobody was in its sum
            vectors = vectors | kept.always
        if summed and kept.proposed == round_number:
            vectors = vectors | kept.if_summed
        self._save(Kept(kept.run, round_number, tuple(sorted(survivors)), vectors))

    def _save(self, kept: Kept) -> None:
        self._journal.save(kept.to_bytes())
        self._kept = kept


def _without(vectors: Mapping[str, bytes], names: Collection[str]) -> dict[str, bytes]:
    return {name: vector for name, vector in vectors.items() if name not in names}


def _raw(vectors: Mapping[str, Vector]) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(vector, dtype="<f4").tobytes() for name, vector in sorted(vectors.items())}
