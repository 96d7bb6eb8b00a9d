"""Partition of a corpus: which hospital of a simulation each unit of privacy is at, and whether it trains.

A unit is at exactly one hospital and on one side, with all records of it that are used. Natural groups are those that
the records name; drawn ones are IID, or skewed by a Dirichlet distribution over hospitals (Hsu et al. 2019; Li et al.,
ICDE 2022, sections IV-A and IV-C). Draws that leave a hospital without both outcomes on both sides are repeated, as
Li et al. repeat those that leave one with too few records.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from fedward.client.data import Example, split_patients
from fedward.client.data.example import position
from fedward.errors import DataError
from fedward.messages import labelled_hash
from fedward.planning.scenario import MIN_HOSPITALS, DataConfig, Scenario

MOST_DRAWS = 1000
"""Dirichlet draws before a split is refused."""

UNKNOWN = "unknown"
"""Group of records that name none."""

NUMBER_CLASSES = 4
"""Quarters that numbers are cut into, where labels are numbers."""

Integers = NDArray[np.int64]

Divided = tuple[tuple[list[Example], list[Example]], dict[str, int]]
"""Records that train and that evaluate; units or records on neither side, by reason."""


@dataclass(frozen=True)
class Partition:
    """Records by hospital, in order of name: those that train and those that evaluate."""

    sites: Mapping[str, tuple[list[Example], list[Example]]]
    left_out: Mapping[str, int]  # units or records that are not used, by reason


def divide(scenario: Scenario, examples: Sequence[Example], *, fraction: float, salt: str) -> Partition:
    """Deals ``examples`` of a corpus to the hospitals of ``scenario``.

    Args:
        scenario: says by what.
        examples: all records.
        fraction: expected share of evaluation units, where no date separates them.
        salt: key of that split.

    Raises DataError FW-DATA-060 (too few units or groups, or no draw fits), FW-DATA-061 (records without a time),
    FW-DATA-062 (the date does not separate them).
    """
    sides, left_out = split_sides(scenario.data, examples, fraction=fraction, salt=salt)
    kept = [example for side in sides for example in side]
    deal = deal_units(scenario, kept, frozenset(example.unit for example in sides[1]))
    names, wanted = sorted(set(deal.values())), scenario.data.hospitals or 1
    if len(names) < wanted:
        raise _refused(f"A draw of {wanted} hospitals leaves {wanted - len(names)} of them without a unit.")
    found: dict[str, tuple[list[Example], list[Example]]] = {name: ([], []) for name in names}
    for number, side in enumerate(sides):
        for example in side:
            if example.unit in deal:
                found[deal[example.unit]][number].append(example)
    smaller = len({example.unit for example in kept}) - len(deal)
    return Partition(found, left_out | ({"units of smaller groups": smaller} if smaller else {}))


def split_sides(data: DataConfig, examples: Sequence[Example], *, fraction: float, salt: str) -> Divided:
    """Training and evaluation records, each unit on one side, and how many records are on none.

    See :func:`fedward.client.data.split_patients`; with ``train_before`` time decides, and earlier records of units
    that evaluate are left out, with ``topics_apart`` see :func:`_sides_of_topics`. Whether a unit is used, and on which
    side, depends on its own records alone. Raises FW-DATA-061, FW-DATA-062.
    """
    split, every = data.split, len({example.unit for example in examples})
    if split.share < 1:
        examples = [each for each in examples if position(each.unit, f"{salt}/share") < split.share]
    left = every - len({example.unit for example in examples})
    left_out = {"units that the share leaves out": left} if left else {}
    if split.train_before is not None:
        sides, more = _sides_of_time(data, split.train_before, examples)
    elif split.topics_apart:
        sides, more = _sides_of_topics(examples, data.records.topic, fraction, salt)
    else:
        sides, more = split_patients(examples, evaluation_fraction=fraction, salt=salt), {}
    return sides, left_out | more


def _sides_of_topics(examples: Sequence[Example], kind: str, fraction: float, salt: str) -> Divided:
    """Sides of which none has a topic or an answer of the other.

    Each topic and each answer has a side by its own hash. A unit is used where all of its own are on one; so which
    units are left out does not depend on what others hold.
    """

    def evaluates(key: str) -> bool:
        return position(key, salt) < fraction

    told: dict[str, set[bool]] = {}
    for each in examples:
        answer = each.turns[-1][1] if each.turns else each.text
        keys = (f"topic {each.groups.get(kind, each.unit)}", f"answer {' '.join(answer.lower().split())}")
        told.setdefault(each.unit, set()).update(map(evaluates, keys))
    held_out = {each.unit for each in examples if each.held_out}
    train = [each for each in examples if told[each.unit] == {False} and each.unit not in held_out]
    evaluation = [each for each in examples if told[each.unit] == {True}]
    left = len(told) - len({each.unit for each in (*train, *evaluation)})
    return (train, evaluation), {"units whose topic and answer are on different sides": left} if left else {}


def _sides_of_time(data: DataConfig, day: date, examples: Sequence[Example]) -> Divided:
    days = [_day_of(example, data.source) for example in examples]
    late = {e.unit for e, of in zip(examples, days, strict=True) if e.held_out or of >= day}
    train = [example for example in examples if example.unit not in late]
    evaluation = [
        e for e, of in zip(examples, days, strict=True) if e.unit in late and (of >= day or e.held_out)
    ]  # fmt: skip
    if not train or not any(of >= day for of in days):
        known = f"The records are of the years {min(days).year} to {max(days).year}."
        raise DataError(f"The date {day} does not separate training from evaluation. {known}", code="FW-DATA-062")
    earlier = len(examples) - len(train) - len(evaluation)
    return (train, evaluation), {"earlier records of evaluation units": earlier} if earlier else {}


def _day_of(example: Example, source: str) -> date:
    if example.time is None:
        raise DataError(f"A record of {source!r} does not say when it is of.", code="FW-DATA-061")
    return example.time.date()


def deal_units(scenario: Scenario, examples: Sequence[Example], evaluating: frozenset[str]) -> dict[str, str]:
    """The hospital of each unit; units of groups that have no hospital are missing. Raises FW-DATA-060.

    ``evaluating`` are the units of the evaluation side.
    """
    data, split = scenario.data, scenario.data.split
    by = split.by or ("group" if data.records.grouped and data.hospitals is None else "iid")
    units = list(dict.fromkeys(example.unit for example in examples))
    if (data.hospitals or 1) > len(units):
        raise _refused(f"{data.hospitals} hospitals cannot share {len(units)} units of privacy.")
    if not (split.drawn or by == "iid"):
        return _by_group(examples, by, data)
    seed = scenario.seed if split.seed is None else split.seed
    count = data.hospitals or MIN_HOSPITALS
    names = [f"hospital-{number + 1}" for number in range(count)]
    if by == "iid":
        places = {unit: int.from_bytes(labelled_hash("deal", unit, seed)[:8], "big") % count for unit in units}
        return {unit: names[place] for unit, place in places.items()}
    drawn = _dirichlet(examples, units, evaluating, count=count, alpha=split.alpha, seed=seed, skewed=by == "label")
    return {unit: names[place] for unit, place in zip(units, drawn, strict=True)}


def _by_group(examples: Sequence[Example], by: str, data: DataConfig) -> dict[str, str]:
    """Units by the group that most of their records name, the first of equals; the largest where a number is asked."""
    own = by in ("group", data.records.grouped_by)
    found: dict[str, Counter[str]] = {}
    for example in examples:
        group = (example.group if own else example.groups.get(by)) or UNKNOWN
        found.setdefault(example.unit, Counter())[group] += 1
    groups = {unit: counts.most_common(1)[0][0] for unit, counts in found.items()}
    sizes = Counter(groups.values())
    if sizes.keys() == {UNKNOWN}:
        raise _refused(f"No record says of which {by} it is.")
    if data.hospitals is not None and data.hospitals > len(sizes):
        raise _refused(f"{data.hospitals} hospitals were asked for, and there are {len(sizes)} groups by {by}.")
    largest = sorted(sizes, key=lambda group: (-sizes[group], group))[: data.hospitals]
    called = site_names(largest, unnamed=data.records.grouped_by if by == "group" and data.records.grouped_by else by)
    return {unit: called[group] for unit, group in groups.items() if group in called}


def _dirichlet(
    examples: Sequence[Example],
    units: Sequence[str],
    evaluating: frozenset[str],
    *,
    count: int,
    alpha: float,
    seed: int,
    skewed: bool,
) -> Integers:
    """A hospital's number for each unit, ``[n]``, in Dirichlet shares of all units or, ``skewed``, of each label."""
    labels = unit_labels(examples)
    classes = np.unique([labels[unit] for unit in units], return_inverse=True)[1].astype(np.int64)
    sides = np.array([unit in evaluating for unit in units], np.int64)
    chance = np.random.Generator(np.random.Philox(key=[seed, 1 + skewed]))
    order = np.array(sorted(range(len(units)), key=lambda i: labelled_hash("deal", units[i], seed)), np.int64)
    parts = [order[classes[order] == number] for number in range(int(classes.max()) + 1)] if skewed else [order]
    for _ in range(MOST_DRAWS):
        dealt = np.zeros(len(units), np.int64)
        for part in parts:
            shares = chance.dirichlet([alpha] * count)
            ends = np.rint(np.cumsum(shares)[:-1] * len(part)).astype(np.int64)
            dealt[part] = np.searchsorted(ends, np.arange(len(part)), side="right")
        if _both_outcomes(dealt, sides, classes, count):
            return dealt
    told = f"No draw of {MOST_DRAWS:,} with alpha {alpha:g} gives each of {count} hospitals two outcomes on both sides."
    raise _refused(told)


def _both_outcomes(dealt: Integers, sides: Integers, classes: Integers, count: int) -> bool:
    width = int(classes.max()) + 1
    there = np.bincount((dealt * 2 + sides) * width + classes, minlength=2 * count * width) > 0
    return bool((there.reshape(2 * count, width).sum(axis=1) >= 2).all())


def unit_labels(examples: Sequence[Example]) -> dict[str, int]:
    """A number for the label of each unit's first record; numbers that are no classes are cut into quarters."""
    first: dict[str, Hashable] = {}
    for example in examples:
        first.setdefault(example.unit, example.label)
    labels = list(first.values())
    if any(isinstance(label, float) for label in labels):
        values = np.array(labels, np.float64)
        cuts = np.quantile(values, np.arange(1, NUMBER_CLASSES) / NUMBER_CLASSES)
        return dict(zip(first, np.searchsorted(cuts, values, side="right").tolist(), strict=True))
    number = {label: place for place, label in enumerate(sorted(set(labels), key=repr))}
    return {unit: number[label] for unit, label in first.items()}


def site_names(groups: Iterable[str], *, unnamed: str = "unnamed") -> dict[str, str]:
    """A hospital's name for each group, ``unnamed`` for those without a letter of a to z or a digit, as in Chinese.

    Those that come out alike are numbered, in order of the groups' own names.
    """
    names: dict[str, str] = {}
    for group in sorted(set(groups)):
        slug = re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-")[:56] or unnamed
        name, number = slug, 1
        while name in names.values():
            number += 1
            name = f"{slug}-{number}"
        names[group] = name
    return names


def _refused(message: str) -> DataError:
    return DataError(message, code="FW-DATA-060")
