"""The audit passes the real engine, sums and statistics, and catches every broken one, under fixed keys."""

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from fedward.privacy.audit import Errors, NoiseCheck, Repetition
from fedward.privacy.dpsgd.audit import MechanismAudit, audit_gradient_sum, audit_mechanism, audit_releases
from fedward.privacy.noise import SecureStream
from tests.codes import raises

BROKEN_FILE = Path(__file__).parents[4] / "benchmarks" / "broken_engines.py"
SPEC = importlib.util.spec_from_file_location("broken_engines", BROKEN_FILE)
broken_engines = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(broken_engines)

SOUND = NoiseCheck(Repetition(0.0, 0.1), 0, 1.0, 0.9, 0.9, 0.8, 0.01, 0.02)


def keys():
    """Streams under keys that are known and never the same."""
    count = itertools.count(1)
    return lambda: SecureStream(next(count).to_bytes(32, "big"))


def check_sound(found, steps, done):
    found.check()
    assert 0.5 < found.ratio < 1.0
    assert not found.leaks
    assert sum(done) == steps + 200 + max(100, steps // 10) + 50
    assert found.errors.without + found.errors.with_patient == steps


@pytest.mark.parametrize(("backend", "steps"), [("fast", 1_500), ("opacus-hooks", 800)])
def test_the_real_engine_keeps_its_promise_and_the_audit_sees_it(backend, steps):
    done: list[int] = []
    check_sound(audit_mechanism(steps=steps, backend=backend, streams=keys(), progress=done.append), steps, done)


@pytest.mark.parametrize("audit", [audit_gradient_sum, audit_releases])
def test_sums_and_statistics_of_three_hospitals_keep_their_promise(audit):
    done: list[int] = []
    check_sound(audit(steps=1_500, streams=keys(), progress=done.append), 1_500, done)


LOUD = ("sigma 0", "token-mean loss", "no clipping", "division by the realised batch", "clipping by record")
FAULTS = {
    "reused noise": "more than once",
    "constant key": "more than once",
    "halves of a vector alike": "in some direction",
    "noise used again 20 steps later": "correlated",
    "one vector in a hundred used again": "more than once",
    "no noise on an empty sample": "less noise than is certified (where nobody is sampled)",
    "noise rounded to sigma / 8": "another distribution",
    "noise cut at two sigma": "another distribution",
}


@pytest.mark.parametrize("name", broken_engines.BROKEN)
@pytest.mark.attack("mistake", "thirteen training engines that are broken on purpose")
def test_every_broken_engine_is_caught(name):
    broken = broken_engines.BROKEN[name]
    found = audit_mechanism(steps=500, streams=keys(), make_engine=broken.make_engine, token_loss=broken.token_loss)
    assert found.leaks
    with raises("FW-AUDIT-001"):
        found.check()
    if name in LOUD:
        assert found.ratio > 1.1
    else:
        assert any(FAULTS[name] in words for words in found.faults), found.faults


@pytest.mark.parametrize("name", broken_engines.BROKEN_SUMS)
@pytest.mark.attack("mistake", "five gradient sums that are broken on purpose")
def test_every_broken_gradient_sum_is_caught(name):
    assert audit_gradient_sum(steps=500, streams=keys(), **broken_engines.BROKEN_SUMS[name]).leaks


@pytest.mark.parametrize("name", broken_engines.BROKEN_RELEASES)
@pytest.mark.attack("mistake", "three ways to release statistics that are broken on purpose")
def test_every_broken_release_is_caught(name):
    assert audit_releases(steps=500, streams=keys(), **broken_engines.BROKEN_RELEASES[name]).leaks


def test_noise_is_judged_where_nothing_leaks_in_a_single_release():
    found = MechanismAudit("engine", 10, 1.0, 0.9, 0.999, Errors(1, 5, 1, 5), SOUND, SOUND)
    found.check()
    with raises("FW-AUDIT-001", match="correlated"):
        replace(found, noise=replace(SOUND, repetition=Repetition(0.5, 0.1))).check()
    with raises("FW-AUDIT-001", match="nobody is sampled"):
        replace(found, empty=replace(SOUND, power=0.0)).check()


def test_an_audit_that_sees_nothing_does_not_pass():
    blind = MechanismAudit("engine", 10, 1.0, 0.2, 0.999, Errors(1, 5, 1, 5), SOUND, SOUND)
    assert not blind.leaks
    with raises("FW-AUDIT-001", match="blind"):
        blind.check()
