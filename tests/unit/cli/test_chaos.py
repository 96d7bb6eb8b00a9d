"""`fedward chaos` over federations that only tell what they would have lived through."""

import json
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from fedward.cli import chaos as command
from fedward.cli import main as cli

pytestmark = pytest.mark.torch  # the agreement pins a hospital's core

POINTS = [("coordinator", "replace Archive.stage", "before"), ("site-0", "send FleetSession.send", "amid")]


class Federation:
    """Ends every case with ``adapter``, and after the first ones with what ``breaks`` adds."""

    def __init__(self, breaks=()):
        self.breaks, self.played = breaks, []

    def play(self, case):
        self.played.append(case.name)
        events = [{"who": "runner", "kind": "ended", "state": "completed", "code": "", "waits_for": {}, "adapter": "a"}]
        if case.counts:
            events += [
                {"who": who, "kind": "point", "point": point, "when": when, "hit": 1} for who, point, when in POINTS
            ]
        elif case.name.startswith("coordinator"):
            events += self.breaks
        return [{"pid": 1, **event} for event in events]


@pytest.fixture
def run(monkeypatch, tmp_path):
    def start(*words, breaks=()):
        federation = Federation(breaks)

        class Stage:
            def over(self, *, superlink):
                return federation

        @contextmanager
        def made(keep):
            yield Stage()

        monkeypatch.setattr(command, "_federation", made)
        monkeypatch.setattr(command.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
        if not cli.app.registered_commands:
            cli._mount()
        return federation, CliRunner().invoke(cli.app, ["chaos", "--kills", "0", *map(str, words)])

    return start


def test_it_plays_every_case_and_says_what_came_of_it(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    federation, result = run("--seed", 5, "--json", tmp_path / "found.json", "--write", page)
    assert result.exception is None, result.output
    assert len(federation.played) == 2 + len(POINTS) + 1 + 2, "without faults, failpoints, sends again, disks"
    found = json.loads((tmp_path / "found.json").read_bytes())
    assert found["seed"] == 5
    assert [each["violations"] for each in found["groups"].values()] == [[]] * len(found["groups"])
    text = page.read_text()
    assert "\nold\n" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| a hospital ends at a failpoint and is started again | 1 | 0 | 0 | 0 |" in text


def test_the_first_violation_ends_it_and_leaves_its_history(run, tmp_path):
    dead = {"who": "runner", "kind": "died", "of": "site-0"}
    federation, result = run("--json", tmp_path / "found.json", breaks=[dead])
    assert result.exception.code == "FW-RUN-014"
    assert federation.played[-1].startswith("coordinator ends before")
    assert dead.items() <= json.loads((tmp_path / "events.json").read_bytes())[-1].items()
    assert "site-0 ended by itself" in (tmp_path / "found.json").read_text()


def test_a_name_that_no_case_has_is_refused(run):
    _, result = run("--only", "nothing")
    assert result.exception.code == "FW-CONFIG-045"
