"""Splits of a corpus among simulated hospitals, what is refused, and the report of how much they differ."""

import csv
import json
from datetime import date, datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from fedward.cli import main
from fedward.client.data import Example
from fedward.client.models.registry import resolve
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import Scenario, known_hospitals
from fedward.simulations.heterogeneity import heterogeneity, jensen_shannon
from fedward.simulations.parties import make_sites
from fedward.simulations.partition import Partition, divide
from fedward.simulations.synthetic import HospitalSpec, draw, write_mimic3
from fedward.simulations.synthetic.layouts import LAYOUTS
from tests.codes import raises


def scenario(source="eicu", hospitals=None, **split):
    data = {"source": source, "path": "x", "hospitals": hospitals, "split": split}
    return Scenario.model_validate({"name": "test", "data": data}).check()


def examples(count=900, **more):
    return [Example(f"p{i}", f"g{i % 4}", "", int(i % 5 == 0), **more) for i in range(count)]


def split(found, **more):
    return divide(scenario(**more), found, fraction=0.4, salt="s")


def rates(partition):
    return [np.mean([e.label for side in sides for e in side]) for sides in partition.sites.values()]


def sizes(partition):
    return [sum(map(len, sides)) for sides in partition.sites.values()]


def test_a_small_alpha_skews_labels_or_quantities():
    even, uneven = (split(examples(), by="label", alpha=alpha, hospitals=4) for alpha in (1e4, 0.3))
    assert np.ptp(rates(even)) < 0.03 < 0.2 < np.ptp(rates(uneven))
    even, uneven = (split(examples(), by="quantity", alpha=alpha, hospitals=4) for alpha in (1e4, 0.5))
    assert max(sizes(even)) < 1.1 * min(sizes(even))
    assert max(sizes(uneven)) > 2 * min(sizes(uneven))
    assert sum(sizes(uneven)) == 900


def test_another_seed_deals_otherwise():
    first, same, other = (split(examples(), by="label", hospitals=3, seed=seed) for seed in (1, 1, 2))
    assert first == same != other


def test_numbers_are_skewed_by_their_quarters():
    found = [Example(f"p{i}", "", "", float(i)) for i in range(400)]
    assert np.ptp(rates(split(found, by="label", alpha=0.2, hospitals=3))) > 30


def test_of_natural_groups_the_largest_become_hospitals():
    found = [*examples(), *(Example(f"q{i}", "g0", "", i % 2) for i in range(100)), Example("z", "tiny", "", 1)]
    every = split(found, by="region")
    assert list(every.sites) == ["g0", "g1", "g2", "g3", "tiny"]
    largest = split(found, by="region", hospitals=3)
    assert list(largest.sites) == ["g0", "g1", "g2"]
    assert largest.left_out == {"units of smaller groups": 226}
    with raises("FW-DATA-060", match="there are 5 groups"):
        split(found, by="region", hospitals=6)


def test_a_unit_of_several_groups_is_where_most_of_its_records_are():
    found = [Example("p", "", "", 0, groups={"unit": unit}) for unit in ("sicu", "micu", "micu")]
    found += [Example(f"q{i}", "", "", i % 2, groups={"unit": "sicu"}) for i in range(20)]
    partition = split(found, by="unit")
    assert [e.unit for side in partition.sites["micu"] for e in side] == ["p"] * 3


def test_time_separates_training_from_evaluation():
    def record(unit, year, **more):
        return Example(unit, "", "", 0, groups={"unit": "icu"}, time=datetime(year, 6, 1), **more)

    found = [record("a", 2010), record("b", 2010), record("b", 2013), record("c", 2014), record("d", 2009)]
    found += [record("h", 2010, held_out=True)]
    partition = split(found, by="unit", train_before=date(2012, 1, 1))
    ((train, evaluation),) = partition.sites.values()
    assert [e.unit for e in train] == ["a", "d"]
    assert [(e.unit, e.time.year) for e in evaluation] == [("b", 2013), ("c", 2014), ("h", 2010)]
    assert partition.left_out == {"earlier records of evaluation units": 1}
    for day in (date(2000, 1, 1), date(2020, 1, 1)):
        with raises("FW-DATA-062", match="2009 to 2014"):
            split(found, by="unit", train_before=day)
    with raises("FW-DATA-061"):
        split([*found, Example("e", "", "", 1)], by="unit", train_before=date(2012, 1, 1))


def test_a_split_by_time_is_another_split_for_the_ledgers():
    files = resolve("tiny-clinical")
    salts = {
        draft_plan(scenario(**more), files).split_salt
        for more in ({}, {"train_before": date(2012, 1, 1)}, {"train_before": date(2013, 1, 1)})
    }
    assert len(salts) == 3
    assert "test/1" in salts


def test_no_topic_and_no_answer_is_on_both_sides():
    def question(n, topic, answer):
        turns = (("user", f"q{n}"), ("assistant", answer))
        return Example(f"q{n}", f"site-{n % 3}", "", "", turns=turns, groups={"focus": topic})

    found = [question(n, f"disease {n % 60}", f"Answer {n % 97}") for n in range(600)]
    partition = split(found, source="medquad", by="site", topics_apart=True)
    sides = [[e for parts in partition.sites.values() for e in parts[side]] for side in (0, 1)]
    assert min(map(len, sides)) > 30
    for kind in (lambda e: e.groups["focus"], lambda e: e.turns[-1][1]):
        assert not {kind(e) for e in sides[0]} & {kind(e) for e in sides[1]}
    assert partition.left_out == {"units whose topic and answer are on different sides": 600 - sum(map(len, sides))}
    # Where a unit stands does not depend on the others.
    fewer = split(found[:300], source="medquad", by="site", topics_apart=True)
    for side in (0, 1):
        kept = [e.unit for parts in fewer.sites.values() for e in parts[side]]
        assert set(kept) == {e.unit for e in sides[side]} & {e.unit for e in found[:300]}


def test_held_out_units_never_train_and_a_unit_of_several_answers_is_on_one_side_or_none():
    turns = [(("user", "q"), ("assistant", f"answer {n}")) for n in range(40)]
    found = [Example("q", "site", "", "", turns=each) for each in turns]
    others = [Example(f"h{n}", "site", "", "", turns=turns[n], held_out=True) for n in range(40)]
    others += [Example(f"o{n}", "site", "", "", turns=turns[n]) for n in range(40)]
    ((train, evaluation),) = split([*found, *others], source="medquad", by="site", topics_apart=True).sites.values()
    assert not {"q"} & {e.unit for e in (*train, *evaluation)}
    assert not any(e.held_out for e in train)
    assert any(e.held_out for e in evaluation)


def test_a_share_of_the_units_is_the_same_share_whatever_else_there_is():
    found = examples(900)
    part = split(found, by="region", share=0.25)
    kept = {e.unit for sides in part.sites.values() for side in sides for e in side}
    assert 150 < len(kept) < 300
    assert part.left_out == {"units that the share leaves out": 900 - len(kept)}
    fewer = split(found[:400], by="region", share=0.25)
    assert {e.unit for sides in fewer.sites.values() for side in sides for e in side} == kept & {
        e.unit for e in found[:400]
    }


def test_topics_apart_needs_topics_and_no_date():
    with raises("FW-CONFIG-061", match="topic"):
        scenario(topics_apart=True)
    with raises("FW-CONFIG-061"):
        scenario(source="medquad", topics_apart=True, train_before=date(2012, 1, 1))
    assert scenario(source="medquad", topics_apart=True).split_salt != scenario(source="medquad").split_salt


def test_groups_in_another_alphabet_are_numbered_hospitals():
    found = [Example(f"p{i}", group, "", 0) for i, group in enumerate(("消化科", "神经科", "肝病科") * 20)]
    names = list(split(found, source="cn-med-dialogue", by="department").sites)
    assert names == ["department", "department-2", "department-3"]


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_settings_that_no_record_can_meet_are_refused_before_reading(alpha):
    with raises("FW-CONFIG-061", match="alpha"):
        scenario(by="label", alpha=alpha)
    with raises("FW-CONFIG-061", match="department"):
        scenario(by="department")
    with raises("FW-CONFIG-061", match="own patients"):
        Scenario.model_validate({"name": "test", "data": {"split": {"by": "label"}}}).check()


def test_a_draw_that_leaves_a_hospital_without_both_outcomes_is_refused_in_the_end():
    with raises("FW-DATA-060", match="No draw"):
        split(examples(60), by="label", alpha=0.01, hospitals=20)


def test_the_number_of_hospitals_is_known_where_units_are_drawn():
    assert known_hospitals(scenario(by="label").data) == 3
    assert known_hospitals(scenario(by="unit").data) is None


def test_a_scenario_with_a_split_survives_its_file():
    found = scenario(by="label", alpha=0.3, train_before=date(2012, 1, 1), hospitals=4)
    assert Scenario.model_validate_json(found.model_dump_json()).check() == found


def test_the_report_measures_labels_against_hand_computed_distances():
    left, right = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(left, left) == 0.0
    assert jensen_shannon(left, right) == 1.0
    assert jensen_shannon(left, np.array([0.5, 0.5])) == pytest.approx(0.5579230452841438)
    sites = {
        "a": ([Example("1", "", "", 0), Example("1", "", "", 0)], [Example("2", "", "", 0)]),
        "b": ([Example("3", "", "", 1)], [Example("4", "", "", 1)]),
    }
    report = heterogeneity(Partition(sites, {}))
    first = report.sites[0]
    assert (first.train_units, first.evaluation_units, first.records, first.most_records) == (1, 1, 3, 2)
    assert first.labels == {"0": 1.0}
    assert first.one_outcome
    assert report.mean_distance == report.distances["a"]["b"] == report.distances["b"]["a"] == 1.0


def test_labels_of_several_and_numbers_are_reported():
    several = {name: ([Example(f"{name}{i}", "", "", labels) for i in range(4)], []) for name, labels in
               (("a", ("sepsis", "stroke")), ("b", ()))}  # fmt: skip
    report = heterogeneity(Partition(several, {}))
    assert [site.labels for site in report.sites] == [{"sepsis": 1.0, "stroke": 1.0}, {}]
    assert report.mean_distance == 1.0
    numbers = {name: ([Example(f"{name}{i}", "", "", i + low) for i in range(20)], []) for name, low in
               (("a", 0.0), ("b", 100.0))}  # fmt: skip
    report = heterogeneity(Partition(numbers, {}))
    assert [site.labels for site in report.sites] == [{"mean": 9.5}, {"mean": 109.5}]
    assert report.mean_distance == 1.0


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    (hospital,) = draw([HospitalSpec(name="all", patients=400)], 3)
    folder = tmp_path_factory.mktemp("tables")
    write_mimic3(hospital, folder)
    return folder


def place(person):
    return f"house {int(person) % 4}"


def rewritten(path, key, separator=",", encoding="utf-8", **new):
    """A table with columns added, each a function of ``key``."""
    with path.open(newline="", encoding=encoding) as file:
        rows = list(csv.DictReader(file, delimiter=separator))
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, [*rows[0], *new], delimiter=separator)
        writer.writeheader()
        writer.writerows(row | {name: value(row[key]) for name, value in new.items()} for row in rows)


def in_omop(folder):
    rewritten(folder / "visit_occurrence.csv", "person_id", care_site_id=lambda person: 1 + int(person) % 4)


def in_fhir(folder):
    path = folder / "Encounter.000.ndjson"
    encounters = [json.loads(line) for line in path.read_text().splitlines()]
    for each in encounters:
        person = each["subject"]["reference"].partition("/")[2]
        each["serviceProvider"] = {"reference": f"Organization/{place(person)}"}
    path.write_text("".join(json.dumps(each) + "\n" for each in encounters))


def in_own_tables(folder):
    rewritten(folder / "Faelle.csv", "Pat-Nr", ";", "cp1252", Haus=place, Klinik=lambda person: "ABC"[int(person) % 3])
    mapping = folder / "mapping.toml"
    died = 'died = "tot"\n'
    mapping.write_text(
        mapping.read_text("utf-8").replace(died, f'{died}site = "Haus"\ndepartment = "Klinik"\n'), "utf-8"
    )


@pytest.mark.parametrize(("layout", "told"), [("omop", in_omop), ("fhir", in_fhir), ("mapped", in_own_tables)])
def test_sites_units_and_departments_come_from_the_tables(layout, told, tmp_path):
    (hospital,) = draw([HospitalSpec(name="all", patients=240)], 3)
    folder = tmp_path / layout
    LAYOUTS[layout](hospital, folder)
    without = command(folder, "--by", "site")
    assert (without.exception.code, without.exit_code) == ("FW-DATA-060", 1)
    told(folder)
    kinds = {"site": 4, "unit": 4} | ({"department": 3} if layout == "mapped" else {})
    for kind, count in kinds.items():
        document = json.loads(command(folder, "--by", kind, "--json").output)
        assert len(document["sites"]) >= count, kind
        assert sum(site["records"] for site in document["sites"]) == 240
        wanted = scenario(layout, by=kind)
        path = {"path": str(folder), "hospitals": 3}
        wanted = wanted.model_copy(update={"data": wanted.data.model_copy(update=path)})
        sites = make_sites(wanted, draft_plan(wanted, resolve("tiny-clinical")))
        held = [{e.unit for e in (*site.train, *site.evaluation)} for site in sites]
        assert len(held) == 3 and sum(map(len, held)) == len(set.union(*held))
        if kind == "site":
            assert all(len({int(unit) % 4 for unit in units}) == 1 for units in held)


def command(*words):
    main._mount()
    return CliRunner().invoke(main.app, ["data", "split", *map(str, words)])


def test_the_command_prints_a_report_and_is_what_a_simulation_gets(tables):
    words = ("--by", "label", "--alpha", 0.5, "--hospitals", 3, "--json")
    result = command(tables, *words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    assert sum(site["records"] for site in document["sites"]) > 300
    wanted = Scenario.model_validate(
        {
            "name": "test",
            "data": {
                "source": "mimic-iii", "path": str(tables), "hospitals": 3,
                "split": {"by": "label", "alpha": 0.5, "seed": 1},
            },
        }
    ).check()  # fmt: skip
    sites = make_sites(wanted, draft_plan(wanted, resolve("tiny-clinical")))
    assert [site.name for site in sites] == ["hospital-1", "hospital-2", "hospital-3"]
    assert {e.groups["unit"] for site in sites for e in site.train} > {"micu"}
    assert "Jensen-Shannon" in command(tables, *words[:-1]).output


def test_the_command_refuses_with_a_code(tables):
    for words, code in (
        (("--by", "label", "--alpha", "0"), "FW-CONFIG-061"),
        (("--train-before", "tomorrow"), "FW-CONFIG-061"),
        (("--train-before", "1900-01-01"), "FW-DATA-062"),
        (("--by", "iid", "--hospitals", "900"), "FW-DATA-060"),
    ):
        result = command(tables, *words)
        assert getattr(result.exception, "code", code) == code, words
        assert result.exit_code != 0
