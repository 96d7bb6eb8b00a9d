"""The mechanism audit passes the real engine and catches every broken one, under a fixed key."""

import importlib.util
from pathlib import Path

import pytest

from fedward.privacy.audit import Errors, Repetition
from fedward.privacy.dpsgd.audit import MechanismAudit, audit_mechanism
from fedward.privacy.noise import SecureStream
from tests.codes import raises

BROKEN_FILE = Path(__file__).parents[4] / "benchmarks" / "broken_engines.py"
SPEC = importlib.util.spec_from_file_location("broken_engines", BROKEN_FILE)
broken_engines = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(broken_engines)


@pytest.mark.parametrize(("backend", "steps"), [("fast", 1_500), ("opacus-hooks", 800)])
def test_the_real_engine_keeps_its_promise_and_the_audit_sees_it(backend, steps):
    done: list[int] = []
    found = audit_mechanism(steps=steps, backend=backend, stream=SecureStream(bytes(32)), progress=done.append)
    found.check()
    assert 0.5 < found.ratio < 1.0
    assert not found.leaks
    assert sum(done) == steps + 200
    assert found.errors.without + found.errors.with_patient == steps


@pytest.mark.parametrize("name", broken_engines.BROKEN)
def test_every_broken_engine_is_caught(name):
    broken = broken_engines.BROKEN[name]
    found = audit_mechanism(
        steps=500, stream=SecureStream(bytes(32)), make_engine=broken.make_engine, token_loss=broken.token_loss
    )
    assert found.leaks
    with raises("FW-AUDIT-001"):
        found.check()
    if name == "reused noise":
        assert found.noise.correlation == pytest.approx(1.0)
    else:
        assert found.ratio > 1.1


def test_reused_noise_is_found_by_its_correlation_alone():
    found = MechanismAudit("fast", 10, 1.0, 0.9, 0.999, Errors(1, 5, 1, 5), Repetition(0.5, 0.1))
    with raises("FW-AUDIT-001", match="correlated"):
        found.check()


def test_an_audit_that_sees_nothing_does_not_pass():
    blind = MechanismAudit("fast", 10, 1.0, 0.2, 0.999, Errors(1, 5, 1, 5), Repetition(0.0, 0.1))
    assert not blind.leaks
    with raises("FW-AUDIT-001", match="blind"):
        blind.check()
