"""What a person accepts is what this person was shown, byte for byte."""

import json
from functools import partial

import pytest
from typer.testing import CliRunner

from fedward.cli import client
from fedward.client.daemon import approvals
from fedward.config import to_toml
from fedward.errors import FedwardError
from fedward.privacy.secagg.crypto import Identity
from tests.codes import raises


@pytest.fixture
def say(raw, joined, tmp_path, monkeypatch):
    """Runs an `approve` command of the site; ``typed`` is what the person types."""
    config = tmp_path / "client.toml"
    config.write_text(to_toml(raw), encoding="utf-8")
    monkeypatch.setattr(approvals, "Approvals", partial(approvals.Approvals, clock=lambda: 1_000_000.0))

    def call(*words, typed=None):
        result = CliRunner().invoke(
            client.app, ["approve", *map(str, words), "--config", str(config)], input=typed, catch_exceptions=True
        )
        if isinstance(result.exception, FedwardError):
            raise result.exception
        return result

    return call


@pytest.fixture
def swapped(propose):
    """A plan file, and what puts another plan of the coordinator's in its place."""
    other = propose(days=20, name="other").read_bytes()
    plan = propose()
    return plan, lambda: plan.write_bytes(other)


def test_a_plan_that_was_exchanged_after_it_was_shown_is_not_accepted(say, swapped, joined):
    """Broken: the person reads one plan, and another one is accepted."""
    plan, swap = swapped
    shown = json.loads(say("show", plan, "--json").stdout)["fingerprint"]
    assert f"Plan fingerprint: {shown}" in say("show", plan).stdout
    swap()
    with raises("FW-INTEGRITY-303") as caught:
        say("accept", plan, "--fingerprint", shown)
    assert caught.value.exit_code == 11
    assert not list(joined.approvals.iterdir())


@pytest.mark.parametrize("words", [(), ("--by", "DPO")])
def test_without_a_fingerprint_the_plan_is_shown_and_asked_for(say, propose, joined, words):
    plan = propose()
    result = say("accept", plan, *words, typed="n\n")
    assert result.exit_code == 1
    assert "dies in hospital" in result.stdout
    assert say("accept", plan, *words).exit_code == 1, "nobody is there to answer"
    assert not list(joined.approvals.iterdir())
    assert "is accepted" in say("accept", plan, *words, typed="y\n").stdout


def test_a_plan_exchanged_while_the_person_reads_is_not_the_one_accepted(say, swapped, joined, monkeypatch):
    """Broken: the file is read once to be shown and once more to be stored."""
    plan, swap = swapped
    before = plan.read_bytes()
    monkeypatch.setattr(client.typer, "confirm", lambda *_, **__: swap())
    shown = say("accept", plan).stdout
    assert (joined.approvals / "icu-1.plan").read_bytes() == before != plan.read_bytes()
    (fingerprint,) = {line.partition("ngerprint: ")[2] for line in shown.splitlines() if "ngerprint: " in line}
    assert fingerprint == json.loads(say("show", "icu-1", "--json").stdout)["fingerprint"]


def test_there_is_no_way_to_accept_what_was_not_shown(say, propose):
    plan = propose()
    for words in (("--yes",), ("--fingerprint", "")):
        try:
            assert say("accept", plan, *words).exit_code != 0
        except FedwardError as error:
            assert error.code == "FW-INTEGRITY-303"


def test_a_plan_that_was_shown_is_accepted_in_any_spelling_of_its_fingerprint(say, propose, ca):
    plan = propose()
    shown = json.loads(say("show", plan, "--json").stdout)["fingerprint"]
    assert "is accepted" in say("accept", plan, "--fingerprint", shown.upper().replace(" ", "")).stdout
    assert "is denied" in say("deny", "icu-1").stdout
    with raises("FW-AUTH-304"):
        say("accept", propose(signer=Identity.from_seed("coordinator", bytes(32))), "--fingerprint", shown)
