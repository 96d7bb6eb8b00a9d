import tomllib

import pytest

from fedward.config import load_toml, parse, to_toml
from fedward.errors import ConfigError, UnknownKeyError
from fedward.plan import Plan
from fedward.planning.scenario import Scenario, load_scenario, shipped_scenarios
from tests.codes import raises


def write(tmp_path, text):
    path = tmp_path / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_misspelt_key_is_an_error_with_the_right_one(tmp_path):
    with pytest.raises(UnknownKeyError) as caught:
        load_scenario(write(tmp_path, 'name = "x"\n[privacy]\nepsilom = 3.0\n'))
    assert "privacy.epsilom" in caught.value.message
    assert caught.value.fix == "Did you mean 'epsilon'?"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "text",
    [
        'name = "x"\n[privacy]\nepsilon = "3"\n',
        'name = "x"\n[privacy]\nepsilon = -1.0\n',
        'name = "x"\n[training]\nrounds = 2.5\n',
        'name = "X Y"\n',
        "name = ",
        'name = "x"\n[data]\nsource = "eicu"\n',
        'name = "x"\n[data]\nsource = "synthetic"\nhospitals = 2\n',
    ],
)
def test_wrong_values_are_refused_with_a_code_and_no_traceback(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        load_scenario(write(tmp_path, text))
    assert caught.value.code.startswith("FW-CONFIG-")


def test_unreadable_and_unknown_scenarios_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scenario(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="no scenario") as caught:
        load_scenario("defualt")
    assert "default" in caught.value.fix


def test_every_shipped_scenario_loads():
    assert {"default", "no-dp", "eicu", "mimic-demo"} <= set(shipped_scenarios())
    for name in shipped_scenarios():
        assert isinstance(load_scenario(name), Scenario)


def test_the_plan_hash_pins_every_number():
    plan = Plan(name="x", base_model_sha256="0" * 64)
    louder = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"clip": 2.0000000001})})
    assert plan.hash() != louder.hash()
    assert plan.hash() == Plan.model_validate(plan.model_dump()).hash()


_FORMER = {"name": "x", "privacy": {"patients_per_site": 60}}, {"name": "x", "server": {}}, {"name": "x", "update": {}}


def test_a_plan_with_a_key_of_the_first_release_is_an_error_with_its_new_name():
    for document in _FORMER:
        with raises("FW-CONFIG-002") as caught:
            parse(document, Plan, source="x.toml")
        assert caught.value.fix in ("Did you mean 'units_per_site'?", "Did you mean 'optimizer'?")


def test_a_scenario_may_have_the_keys_of_the_first_release():
    now = {"name": "x", "privacy": {"units_per_site": 60, "epsilon": 2.0}, "optimizer": {"rule": "fedadam"}}
    for section in ("server", "update"):
        then = {"name": "x", "privacy": {"patients_per_site": 60, "epsilon": 2.0}, section: {"optimizer": "fedadam"}}
        assert parse(then, Scenario, source="x.toml") == parse(now, Scenario, source="x.toml")


def test_a_scenario_with_an_old_and_the_new_key_is_an_error():
    both = {"patients_per_site": 60, "units_per_site": 50}
    for sections in ({"privacy": both}, {"server": {}, "optimizer": {}}, {"server": {}, "update": {}}):
        with raises("FW-CONFIG-002"):
            parse({"name": "x", **sections}, Scenario, source="x.toml")


def test_what_is_written_as_toml_is_read_again(tmp_path):
    plan = Plan(name="p", base_model_sha256="0" * 64, split_salt='a "quoted" \\ line\nand ümlaut')
    path = tmp_path / "plan.toml"
    path.write_text(to_toml(plan.model_dump()), encoding="utf-8")
    assert load_toml(path, Plan).hash() == plan.hash()
    assert tomllib.loads(to_toml({"a": 1, "b c": {"d": {"e": [0.1, True]}}, "f": None})) == {
        "a": 1,
        "b c": {"d": {"e": [0.1, True]}},
    }
