"""What a federation job leaves behind beside its result."""

import json
import logging
import os
import stat

import pytest

from fedward.agreements.code import core_hash
from fedward.agreements.proposal import PlanTerms, Proposal, sign_proposal
from fedward.config import to_toml
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, publish
from fedward.server.job import run_federation
from tests.codes import raises


@pytest.fixture
def job(tmp_path):
    names = ("plan", "signed", "roster", "identity", "start", "state", "journal_key", "result")
    document = {"kind": "federation", "run": "run-1", **{name: str(tmp_path / name) for name in names}}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_log_of_a_run_is_private_and_says_how_it_ended(job):
    logger = logging.getLogger("fedward")
    before = (logger.level, list(logger.handlers))
    old = os.umask(0)
    try:
        for _ in range(2):
            with raises("FW-RESOURCE-301") as caught:  # a file of the run is missing
                run_federation(None, job)
    finally:
        os.umask(old)
    log = job.with_name("run.log")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line.partition("Z ")[2] for line in lines] == [f"ERROR run run-1 ended: {caught.value.code}"] * 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert (logger.level, list(logger.handlers)) == before


@pytest.mark.parametrize("part, code", [("core", "FW-VERSION-303"), ("plan", "FW-VERSION-304")])
def test_a_run_is_not_taken_up_by_another_release(job, tmp_path, part, code):
    """Before any hospital is asked: it would be charged for a round whose update it then finds wrong."""
    members = [Identity.from_seed(name, name.encode().ljust(32)) for name in ("a", "b", "c", "d")]
    roster = Roster(
        federation="demo",
        coordinator=members[3].public,
        members=tuple(Member(member.name, member.public) for member in members[:3]),
        colluders=1,
        policy=RunPolicy(min_cohort=3, epoch_days=1, unsafe_two_party=False),
        base_model_hash=b"m" * 32,
        adapter_layout_hash=b"l" * 32,
        code_hash=b"c" * 32 if part == "core" else core_hash(),
    )
    plan = Plan(name="p", base_model_sha256="0" * 64)
    layout = {"adapter_layout_hash": b"l" * 32, "initial_adapter_hash": b"i" * 32, "parameters": 1}
    pins = {"plan_hash": plan.hash(), "base_model_hash": bytes(32), "family": "bert", "code_hash": b"c" * 32}
    terms = PlanTerms(plan=plan.model_dump_json().encode(), **pins, **layout)
    (tmp_path / "signed").write_bytes(sign_proposal(Proposal("demo", "run-1", terms, 1, 2), members[3]))
    (tmp_path / "plan").write_text(to_toml(plan.model_dump()), encoding="utf-8")
    (tmp_path / "roster").write_bytes(publish(roster, members[3]))
    (tmp_path / "identity").write_bytes(b"d".ljust(32))
    (tmp_path / "identity").chmod(0o600)
    with raises(code):
        run_federation(None, job)
    assert not (tmp_path / "state").exists()
