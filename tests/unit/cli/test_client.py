from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.cli.client import _upwards, app
from fedward.errors import FedwardError
from fedward.privacy.events import Event
from fedward.privacy.ledger import CHAIN, AnchorFile, FileStore, Ledger, Population

PLAN = bytes(range(32))


@pytest.fixture
def state(tmp_path):
    for site in ("anna", "berta"):
        ledger = Ledger(
            FileStore(tmp_path / "state" / site),
            site=site,
            cap_epsilon=8.0,
            delta=1e-5,
            population=Population("salt", 0.4),
            anchor=AnchorFile(tmp_path / f"{site}.anchor"),
        )
        for number in (1, 2):
            cost = Event("release", 5.0, 1.0, 1)
            reservation = ledger.reserve(run="run-1", plan_hash=PLAN, round_number=number, training=[cost])
        ledger.settle(reservation, output=bytes(32))
    return tmp_path / "state"


def call(*arguments: object):
    return CliRunner().invoke(app, ["ledger", *map(str, arguments)])


def test_show_says_what_was_spent_at_every_site(state):
    result = call("show", "--state", state, "--json")
    anna, berta = json.loads(result.stdout)["ledgers"]
    assert (anna["site"], berta["site"]) == ("anna", "berta")
    assert anna["spent_epsilon"] == pytest.approx(1.06, abs=0.02)
    assert (anna["cap_epsilon"], anna["delta"], anna["unit"]) == (8.0, 1e-5, "patient")
    (run,) = anna["runs"]
    assert (run["rounds"], run["settled"], run["plan_hash"]) == (2, 1, PLAN.hex())
    assert run["training_epsilon"] == pytest.approx(anna["spent_epsilon"])
    assert run["evaluation_epsilon"] == 0.0


def test_show_as_text_names_epsilon_with_delta_and_relation(state):
    text = call("show", "--state", state / "anna").stdout
    for words in ("run-1", "Spent: epsilon 1.0", "of 8 at delta", "add-or-remove-one"):
        assert words in text
    assert "berta" not in text


def test_a_shown_epsilon_is_never_below_the_true_one(state):
    exact = json.loads(call("show", "--state", state / "anna", "--json").stdout)["ledgers"][0]["spent_epsilon"]
    shown = float(call("show", "--state", state / "anna").stdout.split("Spent: epsilon ")[1].split()[0])
    assert exact <= shown < exact + 0.001
    assert [_upwards(value) for value in (1.0001, 2.0, math.inf)] == ["1.001", "2.000", "inf"]


def test_an_anchor_is_begun_once(state, tmp_path):
    path = tmp_path / "new" / "anna.anchor"
    assert "at record 4" in call("anchor", "--state", state / "anna", "--anchor", path).stdout
    assert call("verify", "--state", state / "anna", "--anchor", path).exit_code == 0
    assert call("anchor", "--state", state / "anna", "--anchor", path).exception.code == "FW-LEDGER-007"
    assert call("anchor", "--state", state, "--anchor", tmp_path / "both").exit_code == 2


def test_verify_accepts_an_intact_chain_its_anchor_and_its_head(state, tmp_path):
    result = call("verify", "--state", state, "--json")
    anna, _ = json.loads(result.stdout)["ledgers"]
    assert anna["records"] == 4
    assert (
        call(
            "verify", "--state", state / "anna", "--anchor", tmp_path / "anna.anchor", "--head", anna["head"]
        ).exit_code
        == 0
    )
    assert "chain intact" in call("verify", "--state", state / "anna").stdout


def test_verify_ends_with_11_where_anything_is_wrong(state, tmp_path):
    chain = state / "anna" / CHAIN
    whole = chain.read_bytes()
    chain.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    codes = [call("verify", "--state", state)]
    chain.write_bytes(whole)
    codes.append(call("verify", "--state", state / "anna", "--anchor", tmp_path / "berta.anchor"))
    codes.append(call("verify", "--state", state / "anna", "--anchor", tmp_path / "missing"))
    codes.append(call("verify", "--state", state / "anna", "--head", "00" * 32))
    for result in codes:
        assert isinstance(result.exception, FedwardError)
        assert result.exception.exit_code == 11


def test_empty_folder_is_said_to_hold_no_ledger(tmp_path):
    result = call("show", "--state", tmp_path)
    assert isinstance(result.exception, FedwardError)
    assert result.exception.code == "FW-LEDGER-009"


def test_malformed_head_is_wrong_usage(state):
    assert call("verify", "--state", state / "anna", "--head", "xyz").exit_code == 2
    assert call("verify", "--state", state, "--head", "00" * 32).exit_code == 2


@pytest.mark.torch
def test_a_hospital_names_its_ledger_by_its_configuration(state, tmp_path, monkeypatch):
    config = tmp_path / "client.toml"
    text = (Path(__file__).parents[3] / "deploy" / "client.toml").read_text(encoding="utf-8")
    config.write_text(text.replace('"/var/lib/fedward"', f'"{state / "anna"}"'), encoding="utf-8")
    shown = call("show", "--config", config, "--json")
    assert [one["site"] for one in json.loads(shown.output)["ledgers"]] == ["anna"]
    monkeypatch.setenv("FEDWARD_CLIENT_CONFIG", str(config))
    assert call("verify").exit_code == 0
    config.write_text(text.replace('"/var/lib/fedward"', f'"{tmp_path / "fresh"}"'), encoding="utf-8")
    assert "has no ledger yet" in str(call("show").exception)
    monkeypatch.delenv("FEDWARD_CLIENT_CONFIG")
    assert call("show").exit_code == 2
