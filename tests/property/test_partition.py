"""A partition by any rule: every unit at exactly one hospital, on one side, with all records that are used."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.client.corpora import CORPORA
from fedward.client.data import Example
from fedward.errors import ConfigError, DataError
from fedward.planning.scenario import Scenario, SplitConfig
from fedward.simulations.partition import divide

FIRST = datetime(2012, 1, 1)


@st.composite
def records(draw):
    """Records of several per unit, which disagree about group, time and label."""
    count = draw(st.integers(12, 80))
    return [
        Example(
            unit=f"p{draw(st.integers(0, 50))}",
            group=draw(st.sampled_from(["north", "south", "west"])),
            text=str(number),
            label=draw(st.integers(0, 1)),
            held_out=draw(st.integers(0, 9)) == 0,
            groups={
                "unit": draw(st.sampled_from(["micu", "sicu", "ccu"])),
                "site": str(draw(st.integers(0, 5))),
                "department": draw(st.sampled_from(["heart", "lung", "gut"])),
            },
            time=FIRST + timedelta(days=draw(st.integers(0, 700))),
        )
        for number in range(count)
    ]


DRAWN = ("iid", "label", "quantity")
KINDS = {  # sources whose records name each kind of group
    "eicu": (None, "group", "region", "site", "unit", *DRAWN),
    "mapped": (None, "department", "site", "unit", *DRAWN),
    "omop": (None, "site", "unit", *DRAWN),
    "fhir": (None, "site", "unit", *DRAWN),
    "webmedqa": (None, "group", "department", *DRAWN),
    "medmcqa": (None, "group", "subject", *DRAWN),
    "medquad": (None, "group", "site", *DRAWN),
    "person-chat": (None, *DRAWN),
}
RULES = st.fixed_dictionaries(
    {
        "alpha": st.floats(0.2, 10),
        "seed": st.integers(0, 2**63 - 1),
        "train_before": st.sampled_from([None, (FIRST + timedelta(days=300)).date()]),
    }
)


def scenario(split, hospitals=3, source="eicu"):
    data = {"source": source, "path": "x", "hospitals": hospitals, "split": split}
    return Scenario.model_validate({"name": "test", "data": data}).check()


@settings(deadline=None, max_examples=60)
@given(records(), RULES, st.sampled_from([None, 3]), st.data())
@pytest.mark.parametrize("source", KINDS)
def test_a_unit_is_at_one_hospital_and_on_one_side(source, examples, split, hospitals, data):
    split |= {"by": data.draw(st.sampled_from(KINDS[source]))}
    try:
        found = divide(scenario(split, hospitals, source), examples, fraction=0.4, salt="s")
    except DataError as error:
        assert error.code in ("FW-DATA-060", "FW-DATA-062")
        return
    places: dict[str, set[tuple[str, int]]] = {}
    for name, sides in found.sites.items():
        for side, part in enumerate(sides):
            for example in part:
                places.setdefault(example.unit, set()).add((name, side))
    assert all(len(place) == 1 for place in places.values())
    used = [int(e.text) for sides in found.sites.values() for part in sides for e in part]
    assert len(used) == len(set(used))
    held_out = {e.unit for e in examples if e.held_out}
    assert not any(side == 0 for unit in held_out for _, side in places.get(unit, ()))
    if not found.left_out:
        assert len(used) == len(examples)
    if split["train_before"] is not None:
        for train, evaluation in found.sites.values():
            assert all(e.time.date() < split["train_before"] for e in train)
            assert all(e.time.date() >= split["train_before"] or e.unit in held_out for e in evaluation)


@pytest.mark.parametrize("source", CORPORA)
def test_every_source_is_split_by_what_its_records_name_and_by_nothing_else(source):
    known = set(KINDS.get(source, ())) - {None, *DRAWN}
    for kind in get_args(get_args(SplitConfig.model_fields["by"].annotation)[0]):
        if source in KINDS and kind not in known and kind not in DRAWN:
            with pytest.raises(ConfigError, match="do not name"):
                scenario({"by": kind}, source=source)
        elif source in KINDS or kind in DRAWN:
            scenario({"by": kind}, source=source)


@settings(deadline=None, max_examples=30)
@given(records(), st.sampled_from(["iid", "label", "quantity"]), st.integers(0, 1000))
def test_the_same_seed_deals_the_same_way_whatever_the_order(examples, by, seed):
    settings_ = scenario({"by": by, "seed": seed, "alpha": 5.0})
    one_label = {e.unit: e.label for e in examples}
    same = [Example(e.unit, e.group, e.text, one_label[e.unit]) for e in examples]
    try:
        first = divide(settings_, same, fraction=0.4, salt="s")
    except DataError:
        return
    second = divide(settings_, same[::-1], fraction=0.4, salt="s")
    for name, (train, _) in first.sites.items():
        assert {e.unit for e in train} == {e.unit for e in second.sites[name][0]}


@pytest.mark.parametrize("fewer", [2, 5])
def test_more_hospitals_than_units_are_refused(fewer):
    examples = [Example(f"p{i}", "", "", i % 2) for i in range(fewer)]
    with pytest.raises(DataError, match=f"cannot share {fewer} units"):
        divide(scenario({"by": "iid"}, hospitals=6), examples, fraction=0.4, salt="s")
