"""The files an operator copies: they are read as they stand, and the guides name commands that exist."""

import configparser
import re
from pathlib import Path

import pytest
import typer

from fedward.cli import main
from fedward.client.daemon.settings import load_client_config
from fedward.planning.scenario import load_scenario

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def commands():
    if not main.app.registered_commands:
        main._mount()
    return typer.main.get_command(main.app)


def test_the_sample_client_toml_is_a_complete_configuration():
    config = load_client_config(ROOT / "deploy" / "client.toml")
    assert config.policy.max_epsilon_per_run <= config.policy.max_epsilon_lifetime
    assert not config.policy.unsafe_non_private
    assert config.policy.allowed_base_models == [], "a model is allowed by a decision, not by a sample"


def test_the_scenario_of_make_federation_is_private():
    assert load_scenario(str(ROOT / "deploy" / "scenario.toml")).privacy.private


@pytest.mark.parametrize("name", ["fedward-client.service", "fedward-server.service"])
def test_the_units_are_hardened_and_supervised(name):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy" / name)
    service = unit["Service"]
    assert (service["Type"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("notify", "yes", "strict")
    assert service["WatchdogSec"]
    assert service["CapabilityBoundingSet"] == ""
    # torch and numpy bind threads and memory when they start; a filter without these calls would kill both services.
    assert service["SystemCallErrorNumber"] == "EPERM"
    assert "@resources" not in service["SystemCallFilter"]


@pytest.mark.parametrize("guide", ["docs/hospital.md", "docs/coordinator.md", "scripts/federation"])
def test_every_command_of_the_guides_exists(commands, guide):
    text = (ROOT / guide).read_text(encoding="utf-8")
    found = re.findall(r"(?:^|[`$(]|&& )fedward ([a-z][a-z ]*[a-z])", text, re.MULTILINE)
    assert len(found) > 5
    for words in found:
        command = commands
        for word in words.split():
            if not isinstance(command, typer.core.TyperGroup):
                break
            assert word in command.commands, f"{guide}: fedward {words}"
            command = command.commands[word]
