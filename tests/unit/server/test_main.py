"""What a federation job leaves behind beside its result."""

import json
import logging
import os
import stat

import pytest

from fedward.errors import ConfigError
from fedward.server.main import run_federation


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
