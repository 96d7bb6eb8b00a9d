"""What `--help` tells somebody who has never seen the project."""

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from fedward.cli import main
from fedward.errors import BudgetError, ConfigError, DataError, QuorumError
from fedward.planning.scenario import shipped_scenarios


@pytest.fixture(scope="module")
def app():
    main._mount()
    return main.app


def help_text(app, *command):
    """The help as words, without frames and line ends."""
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return re.sub(r"[\s│╭╮╰╯─]+", " ", result.output)


def leaves(command, path=()):
    if isinstance(command, typer.core.TyperGroup):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield path, command


def test_every_argument_and_option_of_every_command_says_what_it_is(app):
    for path, command in leaves(typer.main.get_command(app)):
        text = help_text(app, *path)
        for parameter in command.params:
            explained = getattr(parameter, "help", None)
            assert explained, f"{path}: {parameter.name} has no help"
            first = " ".join(explained.split()[:3])
            assert first in text, f"{path}: the help of {parameter.name} is not printed"


def test_simulate_names_the_scenarios_and_the_exit_statuses(app):
    text = help_text(app, "simulate")
    for scenario in shipped_scenarios():
        assert scenario in text
    for error in (ConfigError, DataError, BudgetError, QuorumError):
        assert re.search(rf"\b{error.row().exit_code} ", text), error


def test_every_group_says_which_commands_it_has(app):
    """A group's one line lists its commands; a name in it that does not exist misleads (models: list, fetch, path)."""
    for name, group in typer.main.get_command(app).commands.items():
        described = (group.help or "").partition(": ")[2].rstrip(".")
        if isinstance(group, typer.core.TyperGroup) and described:
            assert set(described.split(", ")) <= set(group.commands), name


def test_every_command_shows_an_example(app):
    for path, _ in leaves(typer.main.get_command(app)):
        text = help_text(app, *path)
        assert f"fedward {' '.join(path)}" in text.replace("Usage: fedward", "", 1), path
        assert "Raises:" not in text, path


def test_a_package_that_a_coordinator_lacks_is_named(monkeypatch, capsys):
    def missing():
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    monkeypatch.setattr(main, "app", missing)
    monkeypatch.setattr(main, "_mount", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main.run()
    assert caught.value.code == 4
    assert "FW-PREFLIGHT-002" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--help", "server run list --config none", "server status --config none", "roster show none"]
)
def test_a_look_at_a_federation_does_not_wait_for_the_large_packages(words):
    """torch, Flower and the accountant take seconds to import, and nothing here uses them."""
    program = (
        "import sys; from fedward.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'flwr', 'dp_accounting', 'scipy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program, *words.split()], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]", found.stdout
