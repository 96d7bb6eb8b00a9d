"""Scenario files: what `fedward simulate` runs. TOML, strict, with the privacy settings in a section of their own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fedward.client.data.drops import MOST_DROPPED
from fedward.config import Section, load_toml
from fedward.errors import ConfigError
from fedward.plan import (
    RENAMED_SECTIONS,
    AdapterPlan,
    GatePlan,
    OptimizerPlan,
    Option,
    PrivacyPlan,
    SecureSumPlan,
    TrainingPlan,
)
from fedward.sources import Source, source_named
from fedward.strategies.optimizers import RULES
from fedward.strategies.registry import base_of, find_strategy
from fedward.tasks import DEFAULT as DEFAULT_TASK
from fedward.tasks import task_named
from fedward.units import check_unit

MIN_HOSPITALS = 3
DEFAULT_HOSPITALS = 6
"""Synthetic hospitals of a scenario that names none."""
_SHIPPED = resources.files("fedward.simulations") / "scenarios"


class SyntheticHospitalConfig(Section):
    """One synthetic hospital; the shift knobs are explained in ``fedward.simulations.synthetic``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    patients: Annotated[int, Field(ge=1, le=1_000_000)]
    label_shift: float = 0.0
    covariate_shift: float = 0.0
    concept_shift: float = 0.0


class SplitConfig(Section):
    """How the units of a corpus are dealt to hospitals, and which of them train; see ``docs/data.md``.

    ``by`` is ``group`` (the corpus' own groups), one kind of them, ``iid`` (at random), ``label`` (each label in shares
    drawn from a Dirichlet distribution of parameter ``alpha``) or ``quantity`` (all units in such shares). Without it
    the corpus decides. ``seed`` draws, the scenario's if left out. With ``train_before`` units whose records are all
    of before that day train, and records from that day on evaluate. With ``topics_apart`` no topic and no answer is on
    both sides; units whose topic and answer fall on different ones are left out. ``share`` of the units are used, as a
    keyed hash says.
    """

    by: Literal["group", "site", "unit", "department", "region", "subject", "iid", "label", "quantity"] | None = None
    alpha: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    train_before: date | None = None
    topics_apart: bool = False
    share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def drawn(self) -> bool:
        """Whether chance deals the units, rather than a group that they are of."""
        return self.by in ("iid", "label", "quantity")

    def check(self, data: DataConfig) -> None:
        """Raises FW-CONFIG-061 for a split that the records of ``data`` cannot have, whatever they are."""
        if self.alpha <= 0:
            raise _no_split(f"The Dirichlet parameter alpha is {self.alpha:g}.", "Set it above 0, for example to 0.5.")
        if self.by is not None and data.source == "synthetic":
            fix = "Describe synthetic hospitals with [[data.site]], or read a corpus."
            raise _no_split("Synthetic hospitals have their own patients, who cannot be dealt again.", fix)
        kinds = {"group"} if data.records.grouped else set()
        kinds |= {data.records.grouped_by} if data.records.grouped_by else set()
        kinds |= {"site", "unit"} if data.records.stays else set()
        if self.by is not None and not self.drawn and self.by not in kinds:
            known = ", ".join(sorted({*kinds, "iid", "label", "quantity"}))
            raise _no_split(f"Records of {data.source!r} do not name a {self.by}.", f"Split by one of {known}.")
        if self.topics_apart and self.train_before is not None:
            raise _no_split("A date and topics would both choose the side of a unit.", "Leave one of them out.")
        if self.topics_apart and not data.records.topic:
            raise _no_split(f"Records of {data.source!r} do not name a topic.", "Leave topics_apart out.")


def _no_split(message: str, fix: str) -> ConfigError:
    return ConfigError(message, code="FW-CONFIG-061", fix=fix)


class DataConfig(Section):
    """Where the hospitals' records come from.

    ``synthetic`` draws hospitals; a corpus such as ``mimic-iii`` reads ``path`` (relative to ``FEDWARD_DATA`` when that
    is set) and splits its units: by group if the corpus has groups (the regions of eICU), otherwise into ``hospitals``
    parts by a keyed hash of the unit. ``split`` divides them in other ways. ``site`` describes each synthetic hospital
    by itself. ``exclude`` lists persons who have opted out, ``mapping`` is the mapping file of the source ``mapped``;
    both are found as ``path`` is. ``most_dropped`` is the share of the rows of a table that may be unusable.
    """

    source: str = "synthetic"
    path: str | None = None
    exclude: str | None = None
    mapping: str | None = None
    hospitals: Annotated[int, Field(ge=1, le=1000)] | None = None
    site: list[SyntheticHospitalConfig] | None = None
    split: SplitConfig = SplitConfig()
    most_dropped: Annotated[float, Field(ge=0, le=1)] = MOST_DROPPED

    @property
    def records(self) -> Source:
        """What is read; synthetic hospitals write tables of MIMIC-III. Raises FW-DATA-009, there is no such source."""
        return source_named("mimic-iii" if self.source == "synthetic" else self.source)


class SpeedConfig(Section):
    """Settings that change how fast a run is and nothing else."""

    hospitals_at_once: Annotated[int, Field(ge=1, le=64)] = 2
    microbatch: Annotated[int, Field(ge=1)] = 64
    torch_threads: Annotated[int, Field(ge=1, le=256)] = 1


class StatisticsConfig(Section):
    """What `fedward simulate --statistics` and `fedward plan new --statistics` count, and the epsilon of that alone.

    ``variables`` are of the task's records: ``label``, ``age``, ``sex``, ``measurements`` or single ones.
    """

    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    variables: Annotated[tuple[str, ...], Field(strict=False)] | None = None


class CompareConfig(Section):
    """What is trained beside the federation for comparison, with the same steps and the same privacy."""

    local: bool = True
    central: bool = True


class SamplesConfig(Section):
    """What a language model writes before the run and after it, for the report: how texts and answers go on.

    Each of ``prompts`` is the beginning of a text or, for a task of conversations, what the user says. A
    ``temperature`` of 0 writes the likeliest token each time, 1 draws as the model says, from ``seed``.
    """

    prompts: Annotated[tuple[str, ...], Field(strict=False, max_length=20)] = ()
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1


class Scenario(Section):
    """A whole simulated federation; ``strategy`` may be an alias, which the plan spells out."""

    renamed: ClassVar[Mapping[str, str]] = RENAMED_SECTIONS
    reads_renamed: ClassVar[bool] = True

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    description: str = ""
    task: str = DEFAULT_TASK
    model: str = "tiny-clinical"
    strategy: str = "ffa"
    strategy_options: dict[str, Option] = Field(default={})
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    evaluation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.4
    data: DataConfig = DataConfig()
    adapter: AdapterPlan = AdapterPlan()
    training: TrainingPlan = TrainingPlan()
    privacy: PrivacyPlan = PrivacyPlan()
    secure_sum: SecureSumPlan = SecureSumPlan()
    optimizer: OptimizerPlan = OptimizerPlan()
    gate: GatePlan = GatePlan()
    speed: SpeedConfig = SpeedConfig()
    compare: CompareConfig = CompareConfig()
    samples: SamplesConfig = SamplesConfig()
    statistics: StatisticsConfig = StatisticsConfig()

    def check(self) -> Scenario:
        """Rules across sections; returns itself with the unit of privacy of its data.

        Raises FW-CONFIG-040 (no such task), FW-DATA-009 (no such source), FW-DATA-031 (its units are others),
        FW-CONFIG-003 (too few hospitals), FW-CONFIG-061 (a split that the data cannot have), FW-DP-019 (adaptive
        clipping where noise is split), FW-CONFIG-001 (the rest).
        """
        task_named(self.task)
        this, records, noise = f"The scenario {self.name!r}", self.data.records, self.privacy
        if "unit" in noise.model_fields_set:
            check_unit(*records.held, noise.unit)
        sites = self.data.site
        count = len(sites) if sites is not None else self.data.hospitals
        if count is not None and count < MIN_HOSPITALS:
            raise ConfigError(f"{this} has {count} hospitals.", code="FW-CONFIG-003")
        if sites is not None and self.data.hospitals is not None:
            fix = "Leave out the number (data.hospitals, --hospitals) or the [[data.site]] sections."
            raise ConfigError(f"{this} describes its hospitals and says how many there are.", fix=fix)
        if sites is not None and len({site.name for site in sites}) != len(sites):
            raise ConfigError(f"{this} names a hospital twice.")
        if self.data.source != "synthetic" and self.data.path is None:
            raise ConfigError(f"{this} reads {self.data.source} data but names no data.path.")
        self.data.split.check(self.data)
        noise.check_placement()
        if noise.noise_multiplier or noise.release_noise_multiplier or noise.evaluation_noise_multiplier:
            fix = "Remove the multiplier and set privacy.epsilon."
            raise ConfigError(f"{this} sets a noise multiplier, which is calibrated from epsilon.", fix=fix)
        if noise.placement == "secure-grad" and self.training.local_steps != 1:
            fix = "Set training.local_steps = 1 and raise training.rounds, or use privacy.placement = 'local'."
            raise ConfigError(
                f"{this} splits the noise between hospitals, but trains several steps per round.", fix=fix
            )
        return self.model_copy(update={"privacy": noise.model_copy(update={"unit": records.unit})})

    @property
    def split_salt(self) -> str:
        """Key of the split into training and evaluation units; ledgers count what was learnt under each."""
        day = self.data.split.train_before  # units are on other sides then, so ledgers must count another split
        apart = "/topics apart" if self.data.split.topics_apart else ""
        return f"{self.name}/{self.seed}{apart}" + ("" if day is None else f"/before {day}")

    def placed(self, placement: Literal["local", "secure-grad"]) -> Scenario:
        """The same scenario with its noise placed elsewhere, after as many steps and as many released statistics.

        Under ``secure-grad`` a round is one step, so rounds that trained k steps become k rounds each. A scenario of
        one step per round stays so under ``local``. An optimizer whose rule is for sums of the other kind is left out.
        """
        steps = self.training.local_steps if placement == "secure-grad" else 1
        rounds = {"rounds": self.training.rounds * steps, "local_steps": self.training.local_steps // steps}
        every = {name: getattr(self.privacy, name) * steps for name in ("release_every", "evaluate_every")}
        privacy = self.privacy.model_copy(update={"placement": placement, **every})
        change: dict[str, object] = {"training": self.training.model_copy(update=rounds), "privacy": privacy}
        rule = self.optimizer.rule
        if rule is not None and RULES[rule].placement != placement:
            change["optimizer"] = OptimizerPlan()
        return self.model_copy(update=change)


def shipped_scenarios() -> list[str]:
    """Names of the scenarios inside the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _SHIPPED.iterdir() if entry.name.endswith(".toml"))


def load_scenario(name_or_path: str) -> Scenario:
    """Loads a shipped scenario by name or a file by path, and checks it. Raises ConfigError (it does not hold)."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists():
        return load_toml(path, Scenario).check()
    if name_or_path not in shipped_scenarios():
        fix = f"Give the path of a TOML file, or one of: {', '.join(shipped_scenarios())}."
        raise ConfigError(f"There is no scenario {name_or_path!r}.", fix=fix)
    with resources.as_file(_SHIPPED / f"{name_or_path}.toml") as shipped:
        return load_toml(shipped, Scenario).check()


def known_hospitals(data: DataConfig) -> int | None:
    """How many hospitals ``data`` yield, where that is known before they are read: a corpus' groups are not."""
    if data.source == "synthetic":
        return (data.hospitals or DEFAULT_HOSPITALS) if data.site is None else len(data.site)
    dealt = data.split.by is None and data.records.grouped
    if data.hospitals is None and (dealt or (data.split.by is not None and not data.split.drawn)):
        return None
    return data.hospitals or MIN_HOSPITALS


def hospitals_for(data: DataConfig, strategy: str) -> int | None:
    """How many synthetic hospitals to draw for a strategy that needs more than six; None to leave it."""
    if data.source != "synthetic" or data.site is not None or data.hospitals is not None:
        return None
    fewest = find_strategy(base_of(strategy)).declaration.fewest_hospitals
    return fewest if fewest > DEFAULT_HOSPITALS else None
