import pytest

from fedward.client.corpora import CORPORA
from fedward.client.daemon.settings import ClientConfig
from fedward.config import parse
from fedward.errors import ConfigError, UnknownKeyError


def test_a_complete_file_is_read(configure):
    config = configure()
    assert (config.coordinator.host, config.coordinator.port) == ("127.0.0.1", 9)
    assert config.tables.format == "mimic-iii"
    assert config.policy.approval == "manual"
    assert not config.tables.leave_out


def test_notes_without_rules_are_refused_unless_the_hospital_says_otherwise(raw):
    raw["data"]["icu"]["notes_without_rules"] = "leave-out"
    assert parse(raw, ClientConfig, source="client.toml").tables.leave_out
    raw["data"]["icu"]["notes_without_rules"] = "keep"
    with pytest.raises(ConfigError, match="notes_without_rules"):
        parse(raw, ClientConfig, source="client.toml")


def test_a_misspelt_limit_is_an_error_and_not_a_missing_limit(raw):
    raw["policy"]["max_epsilon_per_rum"] = 1.0
    with pytest.raises(UnknownKeyError) as caught:
        parse(raw, ClientConfig, source="client.toml")
    assert caught.value.fix == "Did you mean 'max_epsilon_per_run'?"


def test_a_limit_of_the_first_release_is_read_by_its_new_name(raw):
    raw["policy"]["min_patients"] = raw["policy"].pop("min_units")
    assert parse(raw, ClientConfig, source="client.toml").policy.min_units == raw["policy"]["min_patients"]


def test_a_limit_under_both_names_is_an_error_with_the_new_one(raw):
    raw["policy"]["min_patients"] = raw["policy"]["min_units"]
    with pytest.raises(UnknownKeyError) as caught:
        parse(raw, ClientConfig, source="client.toml")
    assert caught.value.fix == "Did you mean 'min_units'?"


def test_a_misspelt_key_of_a_data_set_names_the_right_one(raw):
    raw["data"]["icu"]["fromat"] = "eicu"
    with pytest.raises(UnknownKeyError) as caught:
        parse(raw, ClientConfig, source="client.toml")
    assert caught.value.fix == "Did you mean 'format'?"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("coordinator", "url", "http://fl.example:80"),
        ("coordinator", "url", "https://fl.example"),
        ("coordinator", "url", "https://user@fl.example:1"),
        ("coordinator", "url", "https://fl.example:99999999"),
        ("coordinator", "proxy", "socks5://x:1"),
        ("site", "state_dir", "relative"),
        ("site", "name", "St Anna"),
        ("policy", "min_cohort", 2),
        ("policy", "max_epsilon_per_run", 10.0),
        ("policy", "approval", "automatic"),
        ("policy", "allowed_base_models", ["sha256:short"]),
    ],
)
def test_what_would_be_unsafe_or_useless_is_refused(raw, section, key, value):
    raw[section][key] = value
    with pytest.raises(ConfigError):
        parse(raw, ClientConfig, source="client.toml")


def test_no_limit_has_a_silent_default(raw):
    for key in ("min_units", "max_epsilon_per_run", "max_epsilon_lifetime", "allowed_base_models"):
        policy = {name: value for name, value in raw["policy"].items() if name != key}
        with pytest.raises(ConfigError, match=key):
            parse({**raw, "policy": policy}, ClientConfig, source="client.toml")


def test_one_data_set_and_not_two(raw):
    raw["data"]["ward"] = dict(raw["data"]["icu"])
    with pytest.raises(ConfigError):
        parse(raw, ClientConfig, source="client.toml")


def test_a_data_set_has_a_format_that_fedward_reads(raw):
    for name in CORPORA:
        raw["data"]["icu"]["format"] = name
        assert parse(raw, ClientConfig, source="client.toml").tables.format == name
    raw["data"]["icu"]["format"] = "csv"
    with pytest.raises(ConfigError, match="mimic-iii"):
        parse(raw, ClientConfig, source="client.toml")
