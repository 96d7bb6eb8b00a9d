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

Which tensor of a state is which part of the adapter follows from its name. ``docs/adding-a-strategy.md`` adds one.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import AdapterLayout, LayoutError, TensorSpec, Vector
from fedward.config import Section, parse
from fedward.errors import ConfigError, UnknownKeyError
from fedward.plan import Plan
from fedward.strategies.optimizers import Memory

Kind = Literal["A", "B", "R", "head"]
"""Part of the adapter: A [r, n], B [m, r], the core R [r, r] between frozen factors, or the head.

W = W0 + (alpha / r) B A on every adapted layer, or B R A where the factors are frozen."""

Positions = NDArray[np.int64]

DELTA = "delta"
"""Name of the segment that most strategies send."""

Moved = tuple[Vector, Memory]
"""State and memory after a protocol round."""

Sums = Mapping[str, NDArray[np.float64]]
"""Decoded sum of every segment of a round, by name: the strategy's parts, and the statistics that were due."""


@dataclass(frozen=True)
class Step:
    """Place of a protocol round in a run."""

    number: int  # the protocol round, from 1
    round: int  # the training round, 1 to R; R + 1 is the scoring round at the end
    phase: int  # which of the training round's sums this is, from 1
    phases: int  # how many it has
    rounds: int  # R

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
    """One segment of the masked vector; ``layout`` need not be of tensors of the state."""

    name: str  # lower-case letters, digits, dot, underscore, hyphen
    layout: AdapterLayout
    bound: float | None = None  # beyond which one hospital's entries are cut; the plan's secure_sum.delta_bound if None
    step: float | None = None  # grid of the fixed-point encoding; the plan's secure_sum.delta_step if None


@dataclass(frozen=True)
class Trained:
    """What a hospital keeps of one training round until it ends; vectors are float32 ``[P]``.

    ``start`` is the state it began from. ``delta`` is what training added, clipped to the plan's L2 norm; zero where
    nothing was trained and in the rows and columns that a hospital of lower rank does not have. ``variate`` is the
    change of its control variate; None for strategies without, and in phases that do not train.
    """

    round: int
    start: Vector
    delta: Vector
    variate: Vector | None = None


@dataclass(frozen=True)
class Declaration:
    """The facts a hospital and a reader need before agreeing to a strategy."""

    name: str  # as in strategy = "..."
    source: str  # paper and identifier
    state: tuple[Kind, ...]  # parts of the adapter that the global state holds, because some round changes them
    trains: tuple[Kind, ...]  # parts that hospitals train; what a round trains is Strategy.trained
    sends: str  # what leaves, in words, for tables and reports
    exact: bool  # the new product B A is the mean of the hospitals' products
    noise_in_product: Literal["linear", "quadratic"]  # how noise on what is sent enters B A
    personal: tuple[Kind, ...] = ()  # trained parts that stay at the hospital; never in the state and never sent
    fewest_hospitals: int = 3  # below which the strategy makes no sense
    sums: int = 1  # protocol rounds in a training round, unless Strategy.sums says otherwise
    trains_in_every_phase: bool = False  # each phase has hospitals of its own that train in it
    mixed_ranks: bool = False  # adapter.ranks may give hospitals lower ranks
    variates: bool = False  # hospitals keep control variates, whose changes are a part of what they send
    local_adapter: bool = False  # hospitals train an offset to the state that they keep (Strategy.personal_steps)
    # [optimizer] may put a rule between the mean delta and the state; not where coordinates of the state change their
    # meaning or stand still for a round
    server_optimizers: bool = False
    # values of privacy.placement it works with; secure-grad needs a state that moves by the mean of gradients alone
    placements: tuple[Literal["local", "secure-grad"], ...] = ("local",)

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


class Options(Section):
    """A strategy's hyper-parameters, ``[strategy_options]`` of the plan; this one is for a strategy without any."""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The options of ``plan``, with defaults. Raises UnknownKeyError, FW-STRATEGY-004 (a value out of range)."""
        try:
            return parse(dict(plan.strategy_options), cls, source=f"[strategy_options] of {plan.strategy!r}")
        except UnknownKeyError:
            raise
        except ConfigError as error:
            raise ConfigError(error.message, code="FW-STRATEGY-004") from error


class Strategy(ABC):
    """One strategy, bound to a plan and to the layout of its state, at the plan's full rank; raises like
    :meth:`Options.of`. Everything it remembers is in the memory."""

    declaration: ClassVar[Declaration]
    own_options: ClassVar[type[Options]] = Options

    def __init__(self, plan: Plan, layout: AdapterLayout) -> None:
        self.plan, self.layout, self.stems = plan, layout, stems(layout)
        self.options(plan)

    @classmethod
    def options(cls, plan: Plan) -> Options:
        """The strategy's hyper-parameters."""
        return cls.own_options.of(plan)

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

        Only these are clipped, noised and moved. The pattern must repeat after at most two rounds and two local steps.
        """
        return frozenset(self.declaration.trains)

    def stale_moments(self, before: Vector, now: Vector) -> frozenset[Kind]:
        """Parts whose local optimizer moments, made in training from ``before``, do not fit ``now``: another basis.

        The hospital forgets these alone. The states themselves (float32 ``[layout.size]``) are compared, not the rounds
        between them: a hospital may have missed some, and a gate may have gone back.
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

        ``trained`` is of phase 1 of this training round, the same object in every phase; ``memory`` is the global one
        before this protocol round.
        """

    # --- at coordinator and hospitals alike -------------------------------------------------------

    @abstractmethod
    def advance(self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]) -> Moved:
        """State and memory after this protocol round; a new vector, never the old one changed in place.

        A phase that later ones follow up leaves the state as it is: hospitals make their next message from it.
        ``state`` is float32 ``[layout.size]``, ``memory`` as this method returned it last, empty in the first round.
        The decoded sums of :meth:`sends` are float64 ``[part.layout.size]``, over the sorted ``survivors``, at least 1.
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


# --- tensors of the state -------------------------------------------------------------------------

_ENDINGS: dict[str, Kind] = {".lora_A.weight": "A", ".lora_B.weight": "B", ".lora_R.weight": "R"}


def kind_of(name: str) -> Kind:
    """The part of the adapter that the tensor ``name`` belongs to; raises LayoutError (it is no adapter tensor)."""
    if name.startswith("head."):
        return "head"
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    raise LayoutError("A tensor of the adapter layout is neither a LoRA matrix nor part of the head.")


def stem_of(name: str) -> str:
    """The adapted layer that a LoRA tensor belongs to."""
    for ending in _ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    raise LayoutError("A tensor that was asked for is not a LoRA matrix.")


def stems(layout: AdapterLayout) -> tuple[str, ...]:
    """The adapted layers of ``layout``, sorted."""
    return tuple(sorted({stem_of(tensor.name) for tensor in layout.tensors if kind_of(tensor.name) != "head"}))


def part_of(layout: AdapterLayout, kinds: Collection[Kind]) -> AdapterLayout:
    """The tensors of ``kinds`` as a layout of their own; raises LayoutError if there are none."""
    return AdapterLayout(tuple(tensor for tensor in layout.tensors if kind_of(tensor.name) in kinds))


def positions_of(layout: AdapterLayout, kinds: Collection[Kind]) -> Positions:
    """Where the entries of ``part_of(layout, kinds)`` lie in the vector of ``layout``, int64, ascending."""
    return np.concatenate([np.empty(0, np.int64), *(np.arange(*span) for span in spans_of(layout, kinds))])


def spans_of(layout: AdapterLayout, kinds: Collection[Kind]) -> list[tuple[int, int]]:
    """Where the tensors of ``part_of(layout, kinds)`` lie in the vector of ``layout``: from, and up to before."""
    return [_span(layout, tensor) for tensor in layout.tensors if kind_of(tensor.name) in kinds]


def nested_layout(layout: AdapterLayout, rank: int) -> AdapterLayout:
    """``layout`` at the smaller ``rank``: the first rows of A, the first columns of B, the leading block of R."""
    return AdapterLayout(tuple(TensorSpec(t.name, _nested_shape(t, rank)) for t in layout.tensors))


def nested_positions(layout: AdapterLayout, rank: int) -> Positions:
    """Where the entries of ``nested_layout(layout, rank)`` lie in the vector of ``layout``, int64."""
    blocks = ((np.arange(*_span(layout, t)).reshape(t.shape), _nested_shape(t, rank)) for t in layout.tensors)
    return np.concatenate([block[tuple(slice(length) for length in shape)].ravel() for block, shape in blocks])


def _nested_shape(tensor: TensorSpec, rank: int) -> tuple[int, ...]:
    kind = kind_of(tensor.name)
    if kind == "head":
        return tensor.shape
    rows, columns = tensor.shape
    return (rows if kind == "B" else min(rows, rank), columns if kind == "A" else min(columns, rank))


def _span(layout: AdapterLayout, tensor: TensorSpec) -> tuple[int, int]:
    place = layout.slice_of(tensor.name)
    return int(place.start), int(place.stop)
