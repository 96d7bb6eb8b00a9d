"""Makes the hospitals of a scenario: draws or reads their records and splits each one's by their unit."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedward.client.corpora import check_unit
from fedward.client.data import Example, load_examples, split_patients
from fedward.errors import ConfigError, DataError
from fedward.messages import labelled_hash
from fedward.plan import Plan
from fedward.planning.scenario import DEFAULT_HOSPITALS, MIN_HOSPITALS, DataConfig, Scenario
from fedward.simulations.synthetic import KNOWN_TRUTH, HospitalSpec, default_hospitals, draw, write_mimic3

DATA_ROOT = "FEDWARD_DATA"


@dataclass(frozen=True)
class SiteData:
    """One hospital's records, already split. ``eta`` holds p(y = 1 | x) by patient, for synthetic data only."""

    name: str
    train: Sequence[Example]
    evaluation: Sequence[Example]
    eta: Mapping[str, float] | None = field(default=None, repr=False)


def make_sites(scenario: Scenario, plan: Plan) -> list[SiteData]:
    """All hospitals of ``scenario``, in order of name.

    Raises:
        DataError: unreadable or unusable data, or not of the plan's unit; a hospital that is empty or has one label.
        ConfigError: FW-CONFIG-003, fewer than three hospitals come out.
    """
    check_unit(scenario.data.corpus, plan.privacy.unit)
    sites = sorted(_sites_of(scenario, plan), key=lambda site: site.name)
    if len(sites) < MIN_HOSPITALS:
        raise ConfigError(
            f"The data of the scenario {scenario.name!r} yield {len(sites)} hospitals.", code="FW-CONFIG-003"
        )
    for site in sites:
        for part, examples in (("training", site.train), ("evaluation", site.evaluation)):
            if len({example.label for example in examples}) < 2:
                raise DataError(
                    f"The {part} records of hospital {site.name!r} do not have both outcomes.",
                    code="FW-DATA-007",
                    fix="Give the hospital more records, join it with another, or choose another task.",
                )
    return sites


def _sites_of(scenario: Scenario, plan: Plan) -> list[SiteData]:
    source = scenario.data.source
    if source == "synthetic":
        return _synthetic(scenario, plan)
    folder = _folder(scenario.data)
    examples = load_examples(folder, format=source, task=scenario.task)
    if scenario.data.corpus.grouped and scenario.data.hospitals is None:
        called = _names([example.group for example in examples])
        deal = {example.patient_id: called[example.group] for example in examples}
        names = sorted(set(deal.values()))
    else:
        count = scenario.data.hospitals or MIN_HOSPITALS
        names = [f"hospital-{number + 1}" for number in range(count)]
        deal = {e.patient_id: f"hospital-{_bucket(e.patient_id, scenario.seed, count) + 1}" for e in examples}
    return [_split(plan, name, [e for e in examples if deal[e.patient_id] == name], None) for name in names]


def _synthetic(scenario: Scenario, plan: Plan) -> list[SiteData]:
    configured, count = scenario.data.site, scenario.data.hospitals or DEFAULT_HOSPITALS
    specs = default_hospitals(count) if configured is None else [HospitalSpec(**s.model_dump()) for s in configured]
    called, sites = _names([spec.name for spec in specs]), []
    with tempfile.TemporaryDirectory(prefix="fedward-hospitals-") as root:
        for hospital in draw(specs, scenario.seed):
            folder = Path(root) / called[hospital.spec.name]
            write_mimic3(hospital, folder)
            try:
                examples = load_examples(folder, format="mimic-iii", task=scenario.task)
            except DataError as error:
                words = f"Hospital {hospital.spec.name!r}: {error.message}"
                raise DataError(words, code=error.code, fix=error.fix) from error
            eta = hospital.eta if scenario.task == KNOWN_TRUTH else None
            sites.append(_split(plan, called[hospital.spec.name], examples, eta))
    return sites


def _split(plan: Plan, name: str, examples: Sequence[Example], eta: Mapping[str, float] | None) -> SiteData:
    train, evaluation = split_patients(examples, evaluation_fraction=plan.evaluation_fraction, salt=plan.split_salt)
    return SiteData(name, train, evaluation, eta)


def _names(groups: Iterable[str]) -> dict[str, str]:
    """A hospital's name for each group; those that come out alike are numbered, in order of the groups' own names."""
    names: dict[str, str] = {}
    for group in sorted(set(groups)):
        name, number = _slug(group), 1
        while name in names.values():
            number += 1
            name = f"{_slug(group)}-{number}"
        names[group] = name
    return names


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _folder(data: DataConfig) -> Path:
    if data.path is None:
        raise ConfigError(f"The data source {data.source!r} needs data.path.")
    folder = Path(data.path)
    if not folder.is_absolute() and (root := os.environ.get(DATA_ROOT)):
        folder = Path(root) / folder
    if not folder.is_dir():
        raise DataError(f"The data folder {data.path!r} of the scenario was not found.", code="FW-DATA-050")
    return folder


def _bucket(patient: str, seed: int, count: int) -> int:
    return int.from_bytes(labelled_hash("deal", patient, seed)[:8], "big") % count
