"""What a federation job leaves behind beside its result."""

import json
import logging
import os
import stat

import pytest

from fedward.config import to_toml
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.privacy.secagg import Identity, Member, Roster, RunPolicy, publish
from fedward.server.main import run_federation
from tests.codes import raises


@pytest.fixture
def job(tmp_path):
    names = ("plan", "roster", "identity", "start", "state", "journal_key", "result")
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
            with pytest.raises(ConfigError) as caught:
                run_federation(None, job)
    finally:
        os.umask(old)
    log = job.with_name("run.log")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line.partition("Z ")[2] for line in lines] == [f"ERROR run run-1 ended: {caught.value.code}"] * 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert (logger.level, list(logger.handlers)) == before


def test_a_run_is_not_taken_up_by_another_release(job, tmp_path):
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
        code_hash=b"c" * 32,
    )
    (tmp_path / "plan").write_text(to_toml(Plan(name="p", base_model_sha256="0" * 64).model_dump()), encoding="utf-8")
    (tmp_path / "roster").write_bytes(publish(roster, members[3]))
    with raises("FW-VERSION-303"):
        run_federation(None, job)
    assert not (tmp_path / "state").exists()
