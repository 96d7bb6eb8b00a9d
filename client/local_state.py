"""A hospital's own side of a strategy: personal tensors, a local adapter, a control variate, a delta of several sums.

They are put into the model before a round's training, taken out after it, and kept by :class:`Keepsakes`. For
strategies that keep nothing, nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import numpy as np

from fedward.adapter import AdapterLayout, Vector, flatten, unflatten
from fedward.client.local_store import Keepsakes
from fedward.client.models.adapter_model import AdapterModel, adapter_parameters, set_parameters
from fedward.client.training import LocalTrainer, clip_delta
from fedward.errors import PolicyError
from fedward.privacy.secagg import Journal
from fedward.run import Run
from fedward.strategies.optimizers import Memory
from fedward.strategies.strategy import Step
from fedward.strategies.tensors import kind_of

VARIATE, LOCAL, PERSONAL, TRAINED = "variate", "local", "personal", "trained"


class OwnSide:
    """What one hospital keeps under one plan.

    Args:
        name: of the hospital, as on the roster.
        run: the approved plan, resolved.
        model: the model it trains; holds the personal tensors.
        size: entries of the state at the model's rank.
        journal: whose state slot the keepsakes take; vectors in it are left alone.

    Raises:
        IntegrityError: FW-INTEGRITY-025, what is stored cannot be read.
    """

    def __init__(self, name: str, run: Run, model: AdapterModel, size: int, journal: Journal) -> None:
        strategy, declared = run.strategy, run.strategy.declaration
        self._name, self._run = name, run
        self._strategy, self._model, self._size = strategy, model, size
        self._depends = declared.variates or declared.personalises
        self._sums_again = run.sums > 1 and not declared.trains_in_every_phase
        self._keepsakes = Keepsakes(journal, needed=self._depends) if self._depends or self._sums_again else None
        parameters = adapter_parameters(model)
        shapes = ((name, tuple(p.shape)) for name, p in parameters.items() if kind_of(name) in declared.personal)
        self._personal = AdapterLayout.of(shapes) if declared.personal else None
        self._untrained = self._taken_out()

    def follow(self, run: str, round_number: int, survivors: Collection[str]) -> None:
        """Settles what ``round_number`` of ``run`` proposed; called before the journal names its result."""
        if self._keepsakes is not None:
            step = self._run.step(round_number)
            ended = (TRAINED,) if step.opens or step.closes else ()
            self._keepsakes.begin(run)
            self._keepsakes.settle(round_number, survivors=survivors, site=self._name, drop=ended)

    def summed(self, run: str, round_number: int) -> frozenset[str]:
        """Hospitals in the sum of ``round_number``, of which a next sum was asked for.

        Raises:
            PolicyError: FW-POLICY-018, it is not the last round that this hospital has followed, or its store is lost.
        """
        found = None if self._keepsakes is None else self._keepsakes.survivors(run, round_number)
        if found is None:
            raise PolicyError("This hospital does not know whose training the sum before was of.", code="FW-POLICY-018")
        return found

    def trained(self, run: str, round_number: int) -> Vector:
        """The delta that was in the sum of ``round_number``, the last one, float32 ``[size]``.

        Raises:
            PolicyError: FW-POLICY-018, there is none here.
            IntegrityError: FW-INTEGRITY-025, it is of another adapter.
        """
        kept = self._keepsakes
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
        if self._keepsakes is None:
            return
        self._keepsakes.begin(run)
        if self._depends:
            self._keepsakes.require(followed)
        if self._personal is not None:
            kept = self._keepsakes.get(PERSONAL, self._personal.size, self._untrained)
            set_parameters(self._model, unflatten(kept, self._personal))

    def scored(self, state: Vector) -> Vector:
        """The state to score a patient with: with the weighted local adapter, where there is one."""
        if self._keepsakes is None or not self._strategy.declaration.local_adapter:
            return state
        weight = np.float32(self._strategy.personal_weight(self._run.plan))
        scored: Vector = state + weight * self._keepsakes.get(LOCAL, self._size)
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
        plan, strategy, kept = self._run.plan, self._strategy, self._keepsakes
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
