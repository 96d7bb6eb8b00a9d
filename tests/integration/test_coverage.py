"""Every row of the survey that is said to work does: its command is run as it is printed, on the fixtures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from fedward.cli import main
from fedward.cli.coverage import markdown, registries, rows

ROOT = Path(__file__).parents[2]
COMMANDS = sorted({row.command for row in rows(registries()) if row.command})

pytestmark = [pytest.mark.slow, pytest.mark.torch]


def run(monkeypatch, command: str) -> None:
    monkeypatch.chdir(ROOT)
    if "tests/fixtures" in command:  # invented data of the repository, wherever the public sets lie
        monkeypatch.setenv("FEDWARD_DATA", str(ROOT))
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    try:
        main.run()
    except SystemExit as ended:
        assert not ended.code


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("coverage") / "run"
    with pytest.MonkeyPatch.context() as patch:
        run(patch, f"fedward simulate {ROOT}/tests/fixtures/scenarios/binary.toml --out {folder}")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_row_is_shown_by_its_command(command, finished, tmp_path, monkeypatch, capfd):
    run(monkeypatch, command.replace("OUT", str(tmp_path / "out")).replace("RUN", str(finished)))
    assert capfd.readouterr().out.strip()


def test_the_document_is_up_to_date():
    written = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    assert written == markdown(rows(registries())), "run: fedward coverage --markdown > docs/coverage.md"


def test_a_row_that_needs_what_is_not_registered_is_not_yet():
    everything, nothing = rows(registries()), rows(dict.fromkeys(registries(), frozenset()))
    assert sum(row.command is None for row in nothing) > sum(row.command is None for row in everything)
    assert [row.title for row in nothing] == [row.title for row in everything]
    assert len(everything) == 72
