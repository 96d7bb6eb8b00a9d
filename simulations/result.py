"""The result of a run: one immutable document, written as ``result.json`` and read back by every other command.

``docs/result-schema.md`` explains each key and its unit. Nothing in it is typed in: the runner fills it
from what it measured, and a value that does not exist (Bayes on real data, epsilon without privacy) is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fedward.config import Section
from fedward.errors import ConfigError, ResourceError
from fedward.storage import PUBLIC, replace_file
from fedward.tasks import TASKS, task_named
from fedward.units import UnitName

RESULT_FILE = "result.json"
SCHEMA_VERSION = 2

Unit = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Interval = tuple[Finite, Finite]


class ScenarioFacts(Section):
    """What was run; with ``personal``, federated scores are those of each hospital's own model on its own records."""

    name: str
    hospitals: Annotated[int, Field(ge=1)]
    task: str
    outcome: str
    model: str
    strategy: str
    seed: Count
    personal: bool = False


class Headline(Section):
    """The measure that the run is judged by first; every score below is of it unless it names another."""

    name: str
    title: str
    better: Literal["higher", "lower"] = "higher"
    about: str = ""
    lowest: Finite = 0.0
    highest: Finite | None = 1.0
    digits: Count = 3

    def improvement(self, value: float, reference: float) -> float:
        """How much better ``value`` is than ``reference``."""
        return value - reference if self.better == "higher" else reference - value

    def gain(self, value: float | None, reference: float | None) -> float | None:
        """The same, as far as both are known."""
        return None if value is None or reference is None else self.improvement(value, reference)


def headline_of(task: str) -> Headline:
    """The measure that the task ``task`` is judged by first."""
    return Headline.model_validate(task_named(task).headline, from_attributes=True)


class Scores(Section):
    """The headline measure on the evaluation records of all hospitals; intervals are 95 % bootstrap.

    ``local_own_mean`` alone is taken over each hospital's own evaluation records. ``best_possible`` is the score of the
    truth, which only synthetic hospitals know. ``untrained`` is that of the base model, for tasks whose head it brings.
    ``others`` are the task's other measures of the federated model, ``central_others`` and ``untrained_others`` those
    of the two beside it.
    """

    federated: Finite | None
    federated_interval: Interval | None = None
    local_mean: Finite | None
    local_own_mean: Finite | None = None
    central: Finite | None
    central_interval: Interval | None = None
    best_possible: Finite | None = None
    untrained: Finite | None = None
    others: dict[str, Finite | None] = Field(default={})
    central_others: dict[str, Finite | None] = Field(default={})
    untrained_others: dict[str, Finite | None] = Field(default={})


class HospitalResult(Section):
    """One row of the simulator's omniscient view; no coordinator ever holds these numbers.

    ``alone`` and ``federated`` are measured on this hospital's own evaluation records, ``alone_everywhere`` on those of
    all hospitals. ``positives`` counts evaluation records with the outcome, for tasks with one. ``epsilon`` is this
    run's, ``epsilon_lifetime`` what the hospital's ledger composes over every run it holds.
    """

    name: str
    train_units: Count
    evaluation_units: Count
    positives: Count | None = None
    alone: Finite | None
    alone_interval: Interval | None = None
    alone_everywhere: Finite | None = None
    federated: Finite | None
    federated_interval: Interval | None = None
    epsilon: Amount | None
    epsilon_lifetime: Amount | None = None


class CrossCheck(Section):
    """A second and a third accountant on the same events."""

    accountant: str
    epsilon: Amount
    rdp_epsilon: Amount
    agrees: bool

    @property
    def verdict(self) -> str:
        """Whether it agrees, in a word that nobody overlooks."""
        return "agrees" if self.agrees else "DISAGREES"


class Release(Section):
    """Noised statistics that leave besides the adapter; ``noise_multiplier`` is null when they leave exactly.

    ``epsilon_everybody`` is as in :class:`Privacy`.
    """

    statistics: tuple[str, ...]
    releases: Count
    noise_multiplier: Amount | None
    epsilon: Amount | None
    epsilon_everybody: Amount | None = None
    delta: Unit | None


class Privacy(Section):
    """The certificate. ``epsilon_max`` of a seeded run is nominal: see ``RunResult.non_private_reasons``.

    ``epsilon_max`` holds against the coordinator with up to c hospitals, ``epsilon_everybody`` against all other
    hospitals and the coordinator together. They are equal unless hospitals share noise.
    """

    private: bool
    epsilon_max: Amount | None
    epsilon_everybody: Amount | None = None
    delta: Unit | None
    unit: UnitName = "patient"
    relation: Literal["add-or-remove-one"] = "add-or-remove-one"
    placement: str
    mechanism: str
    sampler: str
    sampling_rate: Unit
    steps: Count
    expected_batch: Amount
    noise_multiplier: Amount | None
    clip: Amount | None
    accountant: str | None
    cross_check: CrossCheck | None = None
    release: Release | None = None
    evaluation: Release | None = None
    assumptions: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()


class SecureSum(Section):
    """Whether the unmasked sum equalled the plain fixed-point sum in every round, and under which parameters."""

    exact: bool
    ring_bits: Literal[16, 32]
    threshold: Count
    colluders: Count
    cohort: Count


class Egress(Section):
    """One kind of message that left each hospital, averaged over rounds and hospitals, in bytes per round."""

    message: str
    content: str
    protection: str
    bytes: Amount


class CurvePoint(Section):
    """What the coordinator saw after a round; round 0 is the untrained adapter. Noised in private runs."""

    round: Count
    measures: dict[str, Finite | None] = Field(default={})
    epsilon: Amount | None
    taken_back: bool = False  # the holdout gate dropped this adapter: the run went on from the best one before it


class Sample(Section):
    """What a language model writes after a beginning of the scenario's, before and after the run."""

    prompt: str
    untrained: str
    federated: str


class BaseModelFacts(Section):
    """The frozen model."""

    name: str
    sha256: Sha256


class AdapterFacts(Section):
    """Trained against total parameters."""

    parameters: Count
    total: Count


class Seconds(Section):
    """Wall-clock seconds of the run and of its phases."""

    total: Amount
    data: Amount = 0.0
    federated: Amount
    comparison: Amount = 0.0


class RunResult(Section):
    """Everything a finished run says about itself; the document behind result.json, table and report."""

    schema_version: Literal[2] = 2
    fedward_version: str
    created: datetime
    scenario: ScenarioFacts
    rounds: Count
    headline: Headline
    scores: Scores
    hospitals: tuple[HospitalResult, ...]
    privacy: Privacy
    non_private_reasons: tuple[str, ...] = ()
    secure_sum: SecureSum
    bytes_per_round_per_hospital: Amount
    egress: tuple[Egress, ...] = ()
    curve: tuple[CurvePoint, ...]
    samples: tuple[Sample, ...] = ()
    base_model: BaseModelFacts
    adapter: AdapterFacts
    adapter_sha256: Sha256
    seconds: Seconds

    @model_validator(mode="after")
    def _must_not_contradict_itself(self) -> RunResult:
        if self.privacy.private and (self.non_private_reasons or self.privacy.epsilon_max is None):
            raise ValueError("a private run has an epsilon and no reason to be called non-private")
        if not self.privacy.private and not self.non_private_reasons:
            raise ValueError("a run that is not private says why")
        if self.scenario.hospitals != len(self.hospitals):
            raise ValueError("the number of hospitals differs from the rows")
        rounds = [point.round for point in self.curve]
        if rounds != sorted(set(rounds)) or (rounds and rounds[-1] > self.rounds):
            raise ValueError("the curve is not in order of rounds")
        if self.created.tzinfo is None:
            raise ValueError("the time of creation has no time zone")
        return self


def _of_this_version(written: bytes) -> bytes | str:
    """The JSON of a document, brought up to this version if it is of an earlier one; JSON, as dates are text in it."""
    try:
        document = json.loads(written)
        return json.dumps(from_version_1(document)) if document["schema_version"] == 1 else written
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return written  # validation says what is wrong with it


def from_version_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of schema version 1, which knew one outcome and one measure, in the form of version 2."""
    new = dict(document) | {"schema_version": SCHEMA_VERSION}
    names = {"bayes": "best_possible", "train_patients": "train_units", "evaluation_patients": "evaluation_units"}
    new["scores"] = {names.get(key, key): value for key, value in new.pop("auroc").items()}
    new["headline"] = {"name": "auroc", "title": "AUROC"}
    task = new["scenario"]["task"]
    new["scenario"] = {**new["scenario"], "outcome": TASKS[task].outcome if task in TASKS else task}
    new["hospitals"] = [
        {names.get(key, key.removeprefix("auroc_")): value for key, value in row.items()} for row in new["hospitals"]
    ]
    new["curve"] = [
        {key: value for key, value in point.items() if key not in ("loss", "auroc")}
        | {"measures": {"auroc": point["auroc"], "log_loss": point["loss"]}}
        for point in new["curve"]
    ]
    return new


def write_result(result: RunResult, folder: Path) -> Path:
    """Writes ``result.json`` into ``folder``, whole: a reader sees the old or the new one. Raises FW-RESOURCE-020."""
    return write_atomically(folder / RESULT_FILE, result.model_dump_json(indent=2) + "\n")


def read_result(folder: Path) -> RunResult:
    """Reads the result of a finished run. Raises FW-CONFIG-020 (no such file, or not of a known schema version)."""
    path = folder / RESULT_FILE
    try:
        return RunResult.model_validate_json(_of_this_version(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).", code="FW-CONFIG-020") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise ConfigError(
            f"{path} is not a result of schema version {SCHEMA_VERSION} (at {where}).", code="FW-CONFIG-020"
        ) from error


def write_atomically(path: Path, text: str) -> Path:
    """Replaces ``path`` by ``text``, as a whole, and makes its folder. Raises FW-RESOURCE-020 (nothing is left)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode(), mode=PUBLIC)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written ({error.strerror}).", code="FW-RESOURCE-020") from error
    return path
