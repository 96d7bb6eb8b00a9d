"""The interface of a strategy: what it trains, what it sends, and what a sum makes of the global state.

The **state** is one flat float32 vector: every tensor that the strategy ever changes, laid out by an
:class:`~fedward.adapter.AdapterLayout` that follows from plan and base model. The **memory** is a flat float64 vector
of whatever else the next rounds need (an optimizer's moments, the sketch between two sums), empty at the start. Both
are public functions of the decoded sums. Coordinator and hospitals compute them with the same code, and a hospital that
comes to other bits than the coordinator refuses the result. So everything in :meth:`Strategy.advance` is written in
operations that IEEE 754 rounds exactly, one at a time and in a fixed order: ``+ - * / sqrt`` on whole arrays,
``math.fsum``, the factorisations of :mod:`fedward.strategies.factor`. No BLAS, no LAPACK, no ``exp``, no ``pow``, and
no numpy ``sum`` or ``dot``, whose order of addition depends on the machine.

A **training round** is one or more **protocol rounds** (secure sums), its phases; :class:`Step` says which of them a
protocol round is. What a hospital trains in phase 1 it keeps as :class:`Trained`, and later phases send other functions
of it, over exactly the same hospitals: only phase 1 touches records and costs privacy. (Where every phase trains, each
is a first one, for a group of hospitals of its own.)

``docs/adding-a-strategy.md`` shows how to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, Vector
from fedward.config import Section, parse
from fedward.errors import ConfigError, UnknownKeyError
from fedward.plan import Plan
from fedward.strategies.optimizers import Memory
from fedward.strategies.tensors import Kind, part_of, positions_of

DELTA = "delta"
"""Name of the segment that most strategies send."""

Sums = Mapping[str, NDArray[np.float64]]
"""Decoded sum of every segment of a round, by name: the strategy's parts, and the statistics that were due."""


@runtime_checkable
class InPieces(Protocol):
    """Sums that make their float64 values when they are asked for, any part of a segment by itself."""

    def piece(self, name: str, start: int, stop: int) -> NDArray[np.float64]:
        """Entries ``start`` to ``stop`` of segment ``name``."""
        ...

    def size(self, name: str) -> int:
        """Entries of segment ``name``."""
        ...


def piece_of(sums: Sums, name: str, start: int, stop: int) -> NDArray[np.float64]:
    """Entries ``start`` to ``stop`` of segment ``name``, without the others where ``sums`` can."""
    return sums.piece(name, start, stop) if isinstance(sums, InPieces) else sums[name][start:stop]


def size_of(sums: Sums, name: str) -> int:
    """Entries of segment ``name``."""
    return sums.size(name) if isinstance(sums, InPieces) else sums[name].size


@dataclass(frozen=True)
class Step:
    """Place of a protocol round in a run.

    Attributes:
        number: the protocol round, from 1.
        round: the training round, 1 to R; R + 1 is the scoring round at the end.
        phase: which of the training round's sums this is, from 1.
        phases: how many it has.
        rounds: R.
    """

    number: int
    round: int
    phase: int
    phases: int
    rounds: int

    @property
    def scores_only(self) -> bool:
        """Whether this is the scoring round after the last training round."""
        return self.round > self.rounds

    @property
    def opens(self) -> bool:
        """Whether a training round begins here: statistics are released and the state is scored."""
        return self.phase == 1

    @property
    def closes(self) -> bool:
        """Whether the training round ends with this sum."""
        return self.phase == self.phases


@dataclass(frozen=True)
class Part:
    """One segment of the masked vector.

    Attributes:
        name: of the segment; lower-case letters, digits, dot, underscore, hyphen.
        layout: tensors in it. They need not be tensors of the state.
        bound: largest absolute value of one hospital's entries, beyond which they are cut; the plan's
            ``secure_sum.delta_bound`` if None.
        step: grid of the fixed-point encoding; the plan's ``secure_sum.delta_step`` if None.
    """

    name: str
    layout: AdapterLayout
    bound: float | None = None
    step: float | None = None


@dataclass(frozen=True)
class Trained:
    """What a hospital keeps of one round's training, until the round ends.

    Attributes:
        round: the training round.
        start: the state it began from, float32 ``[P]``.
        delta: what training added, clipped to the plan's L2 norm, float32 ``[P]``; zero where nothing was trained and
            in the rows and columns that a hospital of lower rank does not have.
        variate: change of the hospital's control variate, float32 ``[P]``; None for strategies without, and in phases
            that do not train.
    """

    round: int
    start: Vector
    delta: Vector
    variate: Vector | None = None


@dataclass(frozen=True)
class Declaration:
    """The facts a hospital and a reader need before agreeing to a strategy.

    Attributes:
        name: as in ``strategy = "..."``.
        source: paper and identifier.
        state: parts of the adapter that the global state holds, because some round changes them.
        trains: parts that hospitals train; of these, what a round trains is :meth:`Strategy.trained`.
        personal: trained parts that stay at the hospital; never in the state and never sent.
        sends: what leaves, in words, for tables and reports.
        exact: whether the new product B A is the mean of the hospitals' products.
        noise_in_product: how noise on what is sent enters B A.
        fewest_hospitals: below which the strategy makes no sense.
        sums: protocol rounds in a training round, unless :meth:`Strategy.sums` says otherwise.
        trains_in_every_phase: whether each phase has hospitals of its own that train in it.
        mixed_ranks: whether ``adapter.ranks`` may give hospitals lower ranks.
        variates: whether hospitals keep control variates, whose changes are a part of what they send.
        local_adapter: whether hospitals train an offset to the state that they keep (:meth:`Strategy.personal_steps`).
        server_optimizers: whether ``[optimizer]`` may put a rule between the mean delta and the state; not where
            coordinates of the state change their meaning or stand still for a round.
        placements: values of ``privacy.placement`` it works with. ``secure-grad`` needs a state that moves by the
            mean of gradients alone.
        exact_replay: whether a hospital can recompute the update bit for bit.
    """

    name: str
    source: str
    state: tuple[Kind, ...]
    trains: tuple[Kind, ...]
    sends: str
    exact: bool
    noise_in_product: Literal["linear", "quadratic"]
    personal: tuple[Kind, ...] = ()
    fewest_hospitals: int = 3
    sums: int = 1
    trains_in_every_phase: bool = False
    mixed_ranks: bool = False
    variates: bool = False
    local_adapter: bool = False
    server_optimizers: bool = False
    placements: tuple[Literal["local", "secure-grad"], ...] = ("local",)
    exact_replay: bool = True

    @property
    def trains_a(self) -> bool:
        """Whether the factor A is ever changed; a frozen A is the same at every hospital and is never sent."""
        return "A" in self.state

    @property
    def personalises(self) -> bool:
        """Whether every hospital ends with a model of its own."""
        return bool(self.personal) or self.local_adapter

    @property
    def has_core(self) -> bool:
        """Whether a core R is trained between two frozen factors."""
        return "R" in self.state


class NoOptions(Section):
    """A strategy without hyper-parameters of its own."""


OptionsT = TypeVar("OptionsT", bound=Section)


def read_options(plan: Plan, kind: type[OptionsT], name: str) -> OptionsT:
    """Validates the plan's ``[strategy_options]`` as ``kind``; defaults are filled in.

    Raises:
        UnknownKeyError: an option that the strategy does not have.
        ConfigError: FW-STRATEGY-004, a value out of range.
    """
    try:
        return parse(dict(plan.strategy_options), kind, source=f"[strategy_options] of {name!r}")
    except UnknownKeyError:
        raise
    except ConfigError as error:
        raise ConfigError(error.message, code="FW-STRATEGY-004") from error


class Strategy(ABC):
    """One strategy, bound to a plan and to the layout of its state. Everything it remembers is in the memory.

    Args:
        plan: the plan; its ``strategy_options`` are read with :meth:`options`.
        layout: of the state, at the plan's full rank.

    Raises:
        UnknownKeyError, ConfigError (FW-STRATEGY-004): as for :func:`read_options`.
    """

    declaration: ClassVar[Declaration]

    def __init__(self, plan: Plan, layout: AdapterLayout) -> None:
        self.plan, self.layout = plan, layout
        self.options(plan)

    @classmethod
    def options(cls, plan: Plan) -> Section:
        """The strategy's hyper-parameters; override with ``read_options(plan, YourOptions, name)``."""
        return read_options(plan, NoOptions, cls.declaration.name)

    @classmethod
    def sums(cls, plan: Plan) -> int:
        """Protocol rounds in one training round."""
        return cls.declaration.sums

    @classmethod
    def cohort(cls, plan: Plan, step: Step, sites: Collection[str]) -> frozenset[str]:
        """Hospitals of the roster ``sites`` that a phase may ask; every hospital refuses a sum it has no part in."""
        return frozenset(sites)

    @classmethod
    def personal_steps(cls, plan: Plan) -> int:
        """Steps in each training round that train the hospital's own adapter and are charged like all others."""
        return 0

    @classmethod
    def personal_weight(cls, plan: Plan) -> float:
        """Weight of a hospital's own adapter in its personal model."""
        return 1.0

    @classmethod
    def smallest_sum(cls, plan: Plan, hospitals: int) -> int:
        """Hospitals in the smallest sum of a training round, if all of the roster's ``hospitals`` take part."""
        return hospitals

    # --- at the hospital --------------------------------------------------------------------------

    def trained(self, round_number: int, local_step: int) -> frozenset[Kind]:
        """Parts that are trained in local step ``local_step`` (from 0) of training round ``round_number`` (from 1).

        Only these are clipped, noised and moved. The pattern must repeat after at most two rounds and two local steps:
        the hospital tests every set of parts in it before any budget is spent.
        """
        return frozenset(self.declaration.trains)

    def stale_moments(self, before: Vector, now: Vector) -> frozenset[Kind]:
        """Parts whose local optimizer moments, made in training from ``before``, do not fit ``now``: another basis.

        The hospital forgets them. Moments of everything else live on from round to round. The states themselves are
        compared, not the rounds between them: a hospital may have missed some, and a gate may have gone back.

        Args:
            before: state that this hospital trained from last, float32 ``[layout.size]``.
            now: state that it trains from next.
        """
        return frozenset()

    def shift(self, memory: Memory, own: Vector, site: str) -> Vector | None:
        """What ``site`` with variate ``own`` adds to each local gradient behind the noise, float32 ``[P]``."""
        return None

    def weight(self, site: str) -> float:
        """Public weight of ``site`` in sums, in (0, 1]; from the plan alone. The hospital multiplies by it itself."""
        return 1.0

    @abstractmethod
    def sends(self, step: Step) -> tuple[Part, ...]:
        """The segments of this phase, at least one; not asked in the scoring round."""

    @abstractmethod
    def messages(self, step: Step, trained: Trained, memory: Memory, site: str) -> dict[str, Vector]:
        """What ``site`` sends in this phase: float32 ``[part.layout.size]`` for each part of :meth:`sends`.

        Args:
            step: the protocol round.
            trained: of phase 1 of this training round; the same object in every phase.
            memory: the global memory before this protocol round.
            site: name of the hospital.
        """

    # --- at coordinator and hospitals alike -------------------------------------------------------

    @abstractmethod
    def advance(
        self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]
    ) -> tuple[Vector, Memory]:
        """State and memory after this protocol round; a new vector, never the old one changed in place.

        A phase that later ones follow up leaves the state as it is: a hospital makes its next message from the state
        and the delta it has kept.

        Args:
            step: the protocol round.
            state: float32 ``[layout.size]``.
            memory: as this method returned it last; empty in the first round.
            sums: decoded sums; those of :meth:`sends` are float64 ``[part.layout.size]``.
            survivors: sorted names of the hospitals in the sum, at least one.
        """

    # --- for strategies with tensors of the state -------------------------------------------------

    def delta_part(self, kinds: frozenset[Kind]) -> Part:
        """The segment ``delta`` with the state's tensors of ``kinds``."""
        return Part(DELTA, part_of(self.layout, kinds))

    def positions(self, kinds: frozenset[Kind]) -> NDArray[np.int64]:
        """Where the entries of :meth:`delta_part` lie in the state."""
        return positions_of(self.layout, kinds)

    def differ(self, kinds: frozenset[Kind], one: Vector, other: Vector) -> bool:
        """Whether two states differ in any bit of the parts ``kinds``."""
        places = self.positions(kinds)
        return one[places].tobytes() != other[places].tobytes()
