"""The plan: everything about a run that every hospital must know, agree to and pin by its hash.

A plan holds public constants only. Nothing in it is computed from records: the sampling rate, the
expected batch and the noise come from the plan, never from a hospital's data.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fedward.config import Section
from fedward.errors import ConfigError
from fedward.messages import labelled_hash
from fedward.tasks import DEFAULT as DEFAULT_TASK
from fedward.units import UnitName

MOST = 1e6
"""No number of a plan has a use above it; a clip norm of 1e30 is a mistake, or an attempt."""

LEAST = 1e-9
"""Nor a positive one below it."""

Positive = Annotated[float, Field(ge=LEAST, le=MOST)]
Rate = Annotated[float, Field(ge=LEAST, le=3e38)]
"""Of local steps: what single precision holds. Training that diverges tells that one is too high, FW-RUN-010."""

Fraction = Annotated[float, Field(ge=1e-12, lt=1)]


def _is_noise(value: float) -> float:
    if 0 < value < LEAST_NOISE:
        raise ValueError(f"noise is none at all, or at least {LEAST_NOISE:g} of the sensitivity")
    return value


LEAST_NOISE = 1e-3
Noise = Annotated[float, Field(ge=0, le=MOST), AfterValidator(_is_noise)]
Count = Annotated[int, Field(ge=1, le=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=64)]

RENAMED_SECTIONS = {"server": "optimizer", "update": "optimizer"}
"""Sections of plans and scenarios before release 0.2.0, and what they are called now."""

UNITS_COUNTED = "units"
"""Statistic that counts units; no variable can have its name."""

NO_MODEL, NO_MODEL_SHA256 = "none", "0" * 64
"""What a plan that trains nothing says of its base model: nobody needs one for it."""

MODEL_NAME = r"\w[\w.+-]{0,79}"
"""What a base model can be called: never a path, which would open something of a plan's choice on every machine."""

Option = bool | int | float | str
"""A hyper-parameter of a strategy; the strategy says which there are and checks them."""


class PlanSection(Section):
    """Part of a plan; each of its numbers is finite, options of strategies included."""

    model_config = ConfigDict(allow_inf_nan=False)


class AdapterPlan(PlanSection):
    """The LoRA adapter (Hu et al. 2021): W = W0 + (alpha / rank) B A on the target modules.

    Under differential privacy alpha divides the clip norm between the factors and the head, because a unit's gradient
    is clipped as a whole and that of B grows with alpha / rank. With the usual alpha = 2 rank the head gets almost
    nothing; a small alpha with a higher learning rate for LoRA trains the same function with less noise.

    ``ranks`` gives single hospitals a lower rank by name; such a hospital trains the first rows of A and columns of B.
    ``base_precision`` is that of the frozen base model, the same everywhere; the adapter itself is always float32.
    ``start`` is where the head begins: at zero, or at the read-out that the base model brings from public knowledge.
    """

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Positive = 2.0
    targets: Annotated[tuple[Name, ...], Field(max_length=64, strict=False)] = ("query", "value")
    top_layers: Count | None = None
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 96
    init_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    ranks: dict[str, Annotated[int, Field(ge=1, le=256)]] = Field(default={})
    base_precision: Literal["float32", "bfloat16", "int8", "nf4"] = "float32"
    start: Literal["zero", "public"] = "zero"

    @model_validator(mode="after")
    def _ranks_are_nested(self) -> Self:
        if any(rank > self.rank for rank in self.ranks.values()):
            raise ValueError("adapter.ranks may only lower the rank of a hospital")
        return self

    def rank_of(self, site: str) -> int:
        """Rank of the hospital ``site``."""
        return self.ranks.get(site, self.rank)


class TrainingPlan(PlanSection):
    """Local training: the same steps at every hospital, Adam with one rate for the head and one for LoRA.

    ``proximal`` is mu of FedProx: it draws each local step towards the adapter that the round started from. 0 is off.
    """

    rounds: Count = 10
    local_steps: Count = 4
    learning_rate_head: Rate = 0.1
    learning_rate_lora: Rate = 0.01
    proximal: Annotated[float, Field(ge=0, le=1000)] = 0.0


class PrivacyPlan(PlanSection):
    """What determines the guarantee; apart from every speed setting on purpose.

    ``unit`` names whose presence in the data epsilon hides; ``units_per_site`` is a public, rounded number of them.

    ``records_per_unit`` is how many records of a unit take part in a step at most, together clipped to C. Above 1 every
    record that the task can take is read, also where it takes one otherwise. ``records_chosen`` says which, where a
    unit has more: drawn anew at ``each-step``, or ``fixed`` for the run by a hash. Neither alters epsilon.

    ``placement`` says who adds the noise. ``local``: every hospital, all of it, at each of its steps.
    ``secure-grad``: every hospital a share, inside the secure sum of one clipped gradient sum per round.

    ``statistics_noise`` says the same of counts, losses and measures: ``own``, every hospital adds all of the noise, or
    ``shared``, each a share. None does as the placement does to gradients: ``own`` under ``local``. What is shared is
    priced twice: against the coordinator with c hospitals, and against everybody else together, which costs more.

    ``reply_seconds`` is when an answer that depends on records leaves a deployed hospital: so long after it was asked
    for, or a whole multiple of it, so that its time tells nothing of a sample. 0 does not wait; None, in a scenario,
    lets ``plan new`` size it on public numbers. Simulations never wait.

    ``noise_multiplier`` and the release multipliers are standard deviations in units of the sensitivity; they are
    calibrated from ``epsilon`` when the plan is made and then fixed. So is ``parameters``, the number of trained
    parameters, on which the price of a noise share depends; 0 in ``local``.

    ``clipping`` says how ``clip``, the bound C on a unit's gradient, is used. ``fixed``: longer gradients are
    shortened to C. ``adaptive``: C starts at ``clip`` and follows ``clip_quantile`` of the gradients' norms, each
    hospital by its own noised count of units, whose noise has a standard deviation of ``clip_count_noise`` units.
    ``automatic``: every gradient g becomes g C / (|g| + ``clip_stabiliser``). No choice alters epsilon.
    """

    renamed: ClassVar[Mapping[str, str]] = {"patients_per_site": "units_per_site"}

    private: bool = True
    unit: UnitName = "patient"
    records_per_unit: Annotated[int, Field(ge=1, le=1000)] = 1
    records_chosen: Literal["each-step", "fixed"] = "each-step"
    placement: Literal["local", "secure-grad"] = "local"
    statistics_noise: Literal["own", "shared"] | None = None
    epsilon: Positive = 8.0
    delta: Fraction = 1e-5
    clip: Positive = 2.0
    clipping: Literal["fixed", "adaptive", "automatic"] = "fixed"
    clip_quantile: Fraction = 0.5
    clip_learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    clip_count_noise: Positive = 8.0
    clip_min: Positive = 0.01
    clip_max: Positive = 100.0
    clip_stabiliser: Annotated[float, Field(ge=1e-6, le=MOST)] = 0.01
    sampling_rate: Annotated[float, Field(ge=LEAST, le=1)] = 0.2
    units_per_site: Annotated[int, Field(ge=1, le=10**9)] = 400
    noise_multiplier: Noise = 0.0
    parameters: Annotated[int, Field(ge=0, le=2**40)] = 0
    evaluate_every: Annotated[int, Field(ge=1, le=100_000)] = 1
    release_every: Annotated[int, Field(ge=1, le=100_000)] = 5
    reply_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    release_share: Fraction = 0.05
    release_noise_multiplier: Noise = 0.0
    evaluation_noise_multiplier: Noise = 0.0
    unsafe_exact_evaluation: bool = False

    @model_validator(mode="after")
    def _delta_protects_everybody(self) -> Self:
        if self.private and self.delta * 10 * self.units_per_site > 1:
            raise ValueError("delta exceeds 1 / (10 x units_per_site): it would let whole records through")
        return self

    @model_validator(mode="after")
    def _clipping_holds(self) -> Self:
        self.check_placement()
        if not self.private or self.clipping != "adaptive":
            return self
        if not self.clip_min <= self.clip <= self.clip_max:
            raise ValueError("adaptive clipping starts at clip, which must lie between clip_min and clip_max")
        if self.noise_multiplier >= 2 * self.clip_count_noise:
            raise ValueError("clip_count_noise must exceed half the noise multiplier")
        return self

    def check_placement(self) -> None:
        """Raises FW-DP-019 if clipping needs noise that the placement does not add.

        A hospital with a share of the noise can neither see the noised count of all nor adapt to its own exact one.
        """
        if self.private and self.clipping == "adaptive" and self.placement == "secure-grad":
            raise ConfigError("Adaptive clipping needs all of the noise at each hospital.", code="FW-DP-019")

    @property
    def expected_batch(self) -> float:
        """The denominator of every step: sampling rate times the plan's public number of units."""
        return self.sampling_rate * self.units_per_site


class SecureSumPlan(PlanSection):
    """Encoding of the summed vector; see ``docs/protocol.md``."""

    delta_bound: Positive = 4.0
    delta_ring_bits: Literal[16, 32] = 32
    delta_step: Positive = 2.0**-20
    delta_l2_clip: Positive = 64.0
    leg_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 600


class OptimizerPlan(PlanSection):
    """What the coordinator makes of a round's averaged sum, of deltas (``local``) or of gradients (``secure-grad``).

    Rules for deltas are ``mean``, which adds the mean itself and has no numbers, and those of Reddi et al. 2021 with
    the averaged delta as pseudo-gradient; for gradients ``sgd``, descent with momentum, and ``adam``. ``momentum`` is
    beta 1, ``second_moment`` beta 2, ``stabiliser`` what is added to the root of the second moment (tau, or Adam's
    epsilon). ``None`` is the rule's own value, in :mod:`fedward.strategies.optimizers`, or the placement's own rule,
    ``mean`` or ``sgd``.
    """

    renamed: ClassVar[Mapping[str, str]] = {"optimizer": "rule", "adaptivity": "stabiliser"}

    rule: Literal["mean", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "sgd", "adam"] | None = None
    learning_rate_head: Positive | None = None
    learning_rate_lora: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    second_moment: Annotated[float, Field(ge=0, lt=1)] | None = None
    stabiliser: Annotated[float, Field(ge=1e-8, le=MOST)] | None = None


class GatePlan(PlanSection):
    """The holdout gate: an adapter whose released ``measure`` falls ``tolerance`` behind the best is taken back.

    ``measure`` is one of the task's, the headline if None. Noise moves it, too; a tolerance below a few standard
    deviations of the noise takes back good adapters.
    """

    enabled: bool = False
    tolerance: Positive = 0.1
    measure: Name | None = None


class StatisticsPlan(PlanSection):
    """What is counted instead of training: cells of the units of all hospitals, in one noised sum.

    Each unit is in one cell of a variable, by its first record, or in any number of cells of those in ``several``. A
    cell ``not recorded`` takes what has none of its own. ``noise_multiplier`` is calibrated from ``privacy.epsilon``.
    """

    variables: Annotated[
        dict[Name, Annotated[tuple[Name, ...], Field(min_length=1, max_length=256, strict=False)]],
        Field(min_length=1, max_length=64),
    ]
    several: Annotated[tuple[str, ...], Field(strict=False)] = ()
    noise_multiplier: Noise = 0.0

    @model_validator(mode="after")
    def _cells_are_distinct(self) -> Self:
        if UNITS_COUNTED in self.variables or not set(self.several) <= set(self.variables):
            raise ValueError("statistics.several names variables, and none of them is called units")
        if any(len(set(cells)) != len(cells) for cells in self.variables.values()):
            raise ValueError("a variable of the statistics has a cell twice")
        return self


class Plan(PlanSection):
    """One federated run; with ``statistics`` nothing is trained."""

    renamed: ClassVar[Mapping[str, str]] = RENAMED_SECTIONS

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    task: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = DEFAULT_TASK
    strategy: Name = "ffa"
    strategy_options: dict[Name, Option] = Field(default={}, max_length=64)
    base_model: Annotated[str, Field(pattern=f"^{MODEL_NAME}$")] = "tiny-clinical"
    base_model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    evaluation_fraction: Fraction = 0.4
    split_salt: Annotated[str, Field(max_length=256)] = "fedward"
    adapter: AdapterPlan = AdapterPlan()
    training: TrainingPlan = TrainingPlan()
    privacy: PrivacyPlan = PrivacyPlan()
    secure_sum: SecureSumPlan = SecureSumPlan()
    optimizer: OptimizerPlan = OptimizerPlan()
    gate: GatePlan = GatePlan()
    statistics: StatisticsPlan | None = None

    @model_validator(mode="after")
    def _one_clipped_sum_per_aggregation(self) -> Self:
        if self.privacy.placement == "secure-grad" and self.training.local_steps != 1:
            raise ValueError("secure-grad splits the noise, so a round is one step: set training.local_steps to 1")
        return self

    @model_validator(mode="after")
    def _replies_in_time(self) -> Self:
        if (self.privacy.reply_seconds or 0.0) >= self.secure_sum.leg_seconds:
            raise ValueError("privacy.reply_seconds must lie below secure_sum.leg_seconds, or no answer is in time")
        return self

    @model_validator(mode="after")
    def _statistics_alone(self) -> Self:
        if self.statistics is None:
            return self
        if self.gate.enabled or self.privacy.placement != "local":
            raise ValueError("a plan of statistics trains nothing: it has no gate, and no gradients to split noise in")
        if (self.base_model, self.base_model_sha256) != (NO_MODEL, NO_MODEL_SHA256):
            raise ValueError(f"a plan of statistics has no base model: {NO_MODEL!r}, and a hash of zeros")
        return self

    def hash(self) -> bytes:
        """SHA-256 over the canonical form (sorted JSON, floats by their exact hexadecimal value)."""
        return labelled_hash("plan", json.dumps(_exact(self.model_dump(mode="python")), sort_keys=True))


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    return value
